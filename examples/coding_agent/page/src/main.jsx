import { useChat } from "@ai-sdk/react";
import { DefaultChatTransport } from "ai";
import { useEffect, useRef, useState } from "react";
import { createRoot } from "react-dom/client";
import { Preview } from "./preview.jsx";
import { Part } from "./parts.jsx";
import { Workers } from "./workers.jsx";
import "./style.css";

const API = "/api/chat";

// A chat's id is in the address, and its messages are in the browser: both outlive a reload.
const id = (location.hash ||= `#${crypto.randomUUID()}`).slice(1);
const { messages: saved, over } = JSON.parse(localStorage.getItem(id) ?? '{"messages": [], "over": true}');

const transport = new DefaultChatTransport({
  api: API,
  // The last answer from its first chunk, also when it has ended while nobody looked.
  prepareReconnectToStreamRequest: ({ api }) => ({ api: `${api}/${id}/stream?startIndex=0` }),
});

const SAYS = { submitted: "sent", streaming: "at work", ready: "ready" };

function Coder() {
  const chat = useChat({ id, messages: saved, resume: !over, transport, throttle: 50 });
  const { messages, status, error, sendMessage, resumeStream } = chat;
  const busy = status === "submitted" || status === "streaming";
  const end = useRef(null);
  const seen = useRef({ over, busy: false });

  useEffect(() => {
    // An answer is over when it has been seen to end: until then the page comes back to it.
    if (busy) seen.current.over = false;
    else if (status === "ready" && seen.current.busy) seen.current.over = true;
    seen.current.busy = busy;
    if (messages.length) localStorage.setItem(id, JSON.stringify({ messages, over: seen.current.over }));
    end.current?.scrollIntoView({ block: "end" });
  }, [messages, status]);

  useEffect(() => {
    // The connection broke, not the run: come back until it is there again.
    if (status !== "error" || !(error instanceof TypeError)) return undefined;
    const timer = setTimeout(() => resumeStream(), 500);
    return () => clearTimeout(timer);
  }, [status, error]);

  return (
    <>
      <header>
        <h1>
          <b>offbook</b> coding agent
        </h1>
        <Workers />
      </header>
      <main>
        <section className="chat">
          <div className="messages">
            {messages.length === 0 && <Welcome />}
            {messages.map((message) => (
              <article key={message.id} className={message.role}>
                {message.parts.map((part, at) => (
                  <Part key={part.toolCallId ?? part.id ?? at} part={part} live={busy} last={at === message.parts.length - 1} />
                ))}
              </article>
            ))}
            <p id="status" data-status={status}>
              {status === "error" ? error.message : SAYS[status]}
            </p>
            <div ref={end} />
          </div>
          <Composer busy={busy} send={(text) => sendMessage({ text })} />
        </section>
        <Preview messages={messages} />
      </main>
    </>
  );
}

function Welcome() {
  return (
    <div className="welcome">
      <h2>What shall I build?</h2>
      <p>
        I write a small web application, check it, ask you, and show it here. While I do, load this page again, or
        kill my worker: I go on in the middle of the word.
      </p>
    </div>
  );
}

function Composer({ busy, send }) {
  const [text, setText] = useState("");

  function submit(event) {
    event.preventDefault();
    if (busy || !text.trim()) return;
    send(text);
    setText("");
  }

  return (
    <form className="composer" onSubmit={submit}>
      <input
        id="prompt"
        value={text}
        onChange={(event) => setText(event.target.value)}
        placeholder="A tea timer, please"
        autoComplete="off"
        autoFocus
      />
      {busy ? (
        <button id="stop" type="button" onClick={() => fetch(`${API}/${id}/stop`, { method: "POST" })}>
          Stop
        </button>
      ) : (
        <button id="send" disabled={!text.trim()}>
          Build
        </button>
      )}
    </form>
  );
}

createRoot(document.getElementById("root")).render(<Coder />);
