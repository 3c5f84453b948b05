// Unmodified clients of the AI SDK, told by lines of JSON what to do: one order a line, one answer a line.

import net from "node:net";
import readline from "node:readline";

/** Keeps what a chat shows, as a page's hook does. */
class State {
  status = "ready";
  error = undefined;
  constructor(messages) {
    this.messages = messages;
  }
  pushMessage = (message) => {
    this.messages = [...this.messages, message];
  };
  popMessage = () => {
    this.messages = this.messages.slice(0, -1);
  };
  replaceMessage = (index, message) => {
    this.messages = this.messages.map((old, at) => (at === index ? message : old));
  };
  snapshot = (value) => structuredClone(value);
}

/** Passes connections on; each is broken after so many bytes of its answers, while there are cuts. */
class Cutter {
  constructor(port, cuts) {
    this.cuts = [...cuts];
    this.made = 0;
    this.server = net.createServer((near) => this.join(near, net.connect(port, "127.0.0.1")));
  }
  join(near, far) {
    let left = this.cuts.length ? this.cuts.shift() : Infinity;
    const end = () => (near.destroy(), far.destroy());
    near.on("error", end).on("close", end).pipe(far);
    far.on("error", end).on("close", end).on("data", (data) => {
      if (data.length < left) {
        left -= data.length;
        near.write(data);
      } else if (near.writable) {
        this.made += 1;
        near.write(data.subarray(0, left), () => near.resetAndDestroy());
        left = 0;
      }
    });
  }
  async open() {
    await new Promise((done) => this.server.listen(0, "127.0.0.1", done));
    return this.server.address().port;
  }
}

export function serve(ai, WorkflowChatTransport) {
  const chats = new Map();

  class Chat extends ai.AbstractChat {}

  /** What a page sees of a chat. */
  function view(chat) {
    const { status, error, messages } = chat.state;
    return { status, error: error?.message ?? null, messages, data: chat.transient };
  }

  function make({ id, api, kind, messages = [], options = {} }) {
    const Transport = kind === "workflow" ? WorkflowChatTransport : ai.DefaultChatTransport;
    const transient = [];
    const chat = new Chat({
      id,
      transport: new Transport({ api, ...options }),
      state: new State(messages),
      onData: (part) => transient.push(part),
    });
    chat.transient = transient;
    chats.set(id, chat);
    return chat;
  }

  /** Wait until what a chat does is done, or until its last message holds a text. */
  async function doing(chat, act, text) {
    let over = false;
    chat.act = act.finally(() => (over = true));
    if (!text) return await chat.act;
    while (!over && !JSON.stringify(chat.state.messages.at(-1) ?? "").includes(text)) {
      await new Promise((done) => setTimeout(done, 5));
    }
  }

  const orders = {
    /** Send a message and wait for the end, or until a text is seen. */
    async send(order) {
      const chat = make(order);
      await doing(chat, chat.sendMessage({ text: order.text }), order.until);
      return view(chat);
    },
    /** A page that is loaded again: nothing is left but the messages before the answer. */
    async resume(order) {
      const chat = make(order);
      await doing(chat, chat.resumeStream(), order.until);
      return view(chat);
    },
    /** Answer a question, and send the answer. */
    async approve({ id, approval }) {
      const chat = chats.get(id);
      await chat.addToolApprovalResponse({ id: approval, approved: true });
      await chat.sendMessage();
      return view(chat);
    },
    async stop({ id }) {
      const chat = chats.get(id);
      await chat.stop();
      await chat.act;
      return view(chat);
    },
    async end({ id }) {
      const chat = chats.get(id);
      await chat.act;
      return view(chat);
    },
    /** Go to a server by a place where connections break; `made` of them have. */
    async cutter({ port, cuts }) {
      const cutter = new Cutter(port, cuts);
      orders.cuts = async () => ({ made: cutter.made });
      return { port: await cutter.open() };
    },
    async fold({ logs }) {
      const folded = [];
      for (const chunks of logs) folded.push(await fold(chunks));
      return { folded };
    },
  };

  /** Let the client make a message of chunks. */
  async function fold(chunks) {
    const text = chunks.map((chunk) => `data: ${JSON.stringify(chunk)}\n\n`).join("");
    const parsed = ai.parseJsonEventStream({
      stream: new Blob([`${text}data: [DONE]\n\n`]).stream(),
      schema: ai.uiMessageChunkSchema,
    });
    const stream = parsed.pipeThrough(
      new TransformStream({
        transform(chunk, out) {
          if (!chunk.success) throw chunk.error;
          out.enqueue(chunk.value);
        },
      }),
    );
    let message = null;
    let error = null;
    const told = (found) => (error ??= String(found?.message ?? found));
    try {
      for await (message of ai.readUIMessageStream({ stream, onError: told }));
    } catch (found) {
      told(found);
    }
    return { message, error };
  }

  console.error = () => {};
  console.warn = () => {};
  readline.createInterface({ input: process.stdin }).on("line", async (line) => {
    const order = JSON.parse(line);
    const answer = await orders[order.do](order).catch((error) => ({ broken: String(error?.stack ?? error) }));
    process.stdout.write(`${JSON.stringify(answer)}\n`);
  });
}
