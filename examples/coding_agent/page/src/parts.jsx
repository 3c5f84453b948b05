import { useEffect, useRef, useState } from "react";

/** One part of a message: what was said, what a tool does, what a person is asked. */
export function Part({ part, live, last }) {
  if (part.type === "text") return <p className="said">{part.text}</p>;
  if (part.type === "reasoning") return <p className="thought">{part.text}</p>;
  if (part.type === "data-question") return <Question question={part.data} live={live} />;
  if (!part.type.startsWith("tool-")) return null;
  const name = part.type.slice("tool-".length);
  const Card = CARDS[name] ?? Plain;
  const state = stateOf(part, live);
  return <Card name={name} part={part} input={part.input ?? {}} output={part.output} state={state} last={last} />;
}

const CARDS = {
  ask_human: () => null, // its question is a part of its own
  create_sandbox: Sandbox,
  write_file: WrittenFile,
  run_command: Command,
  sleep: Sleep,
  show_app: Shown,
};

function stateOf(part, live) {
  if (part.state === "output-error" || part.state === "output-denied") return "failed";
  if (part.state === "output-available" && !part.preliminary) return "done";
  if (!live) return "left";
  return part.state === "input-streaming" ? "coming" : "running";
}

const MARKS = { coming: "✎", running: "", done: "✓", failed: "✕", left: "–" };

function Tool({ name, state, title, note, error, children }) {
  return (
    <div className={`tool ${state}`} data-tool={name} data-state={state}>
      <div className="title">
        <span className="mark">{MARKS[state]}</span>
        <span className="what">{title}</span>
        {note && <span className="note">{note}</span>}
      </div>
      {error && <pre className="error">{error}</pre>}
      {children}
    </div>
  );
}

function Sandbox({ part, state, output, name }) {
  const files = output?.files?.length;
  const note = state === "done" ? (files ? `${files} files from before` : "empty") : "";
  return <Tool name={name} state={state} title="A sandbox of its own" note={note} error={part.errorText} />;
}

function WrittenFile({ part, state, input, output, name, last }) {
  const [open, setOpen] = useState(false);
  const code = useRef(null);
  const comes = state === "coming" && last; // a model writes one file after the other
  const shown = open || comes;
  useEffect(() => {
    if (comes && code.current) code.current.scrollTop = code.current.scrollHeight;
  }, [input.content, comes]);
  const title = (
    <button className="link" onClick={() => setOpen(!open)} aria-expanded={shown}>
      <code>{input.path ?? "…"}</code>
    </button>
  );
  const size = output?.bytes ?? input.content?.length;
  const note = size !== undefined && `${size.toLocaleString("en")} bytes`;
  return (
    <Tool name={name} state={state} title={title} note={note} error={part.errorText}>
      {shown && (
        <pre className="code" ref={code}>
          {input.content}
        </pre>
      )}
    </Tool>
  );
}

function Command({ part, state, input, output, name }) {
  const bad = state === "done" && output.code !== 0;
  const note = state === "done" && (output.ended_by ? `ended by ${output.ended_by}` : `exit ${output.code}`);
  return (
    <Tool
      name={name}
      state={bad ? "failed" : state}
      title={<code>$ {input.command}</code>}
      note={note}
      error={part.errorText}
    >
      {output?.output && <pre className="terminal">{output.output}</pre>}
    </Tool>
  );
}

function Sleep({ part, state, input, output, name }) {
  const title = `Sleeps for ${input.seconds ?? "…"} seconds`;
  return <Tool name={name} state={state} title={title} note={output && "awake"} error={part.errorText} />;
}

function Shown({ part, state, output, name }) {
  const title = output ? (
    <a href={output.url} target="_blank" rel="noreferrer">
      The application is shown
    </a>
  ) : (
    "Shows the application"
  );
  return <Tool name={name} state={state} title={title} error={part.errorText} />;
}

function Plain({ part, state, input, output, name }) {
  const found = typeof output === "string" ? output : output && JSON.stringify(output, null, 2);
  return (
    <Tool name={name} state={state} title={name} note={input.path} error={part.errorText}>
      {found && <pre className="code">{found}</pre>}
    </Tool>
  );
}

/** A page for whoever shall answer: the address of the question is the secret that allows it. */
const linkOf = ({ text, url }) => `/answer.html#${new URLSearchParams({ text, to: new URL(url).pathname })}`;

const ANSWERS = { yes: "You said yes", no: "You said no", timeout: "Nobody answered in time" };

function Question({ question, live }) {
  const [text, setText] = useState("");
  const [sent, setSent] = useState(false);
  const open = question.state === "open";

  async function answer(ok) {
    setSent(true);
    const body = JSON.stringify({ ok, text, by: "the page" });
    const { pathname } = new URL(question.url);
    const found = await fetch(pathname, { method: "POST", headers: { "content-type": "application/json" }, body });
    if (!found.ok && found.status !== 404) setSent(false); // 404: it was answered before
  }

  return (
    <div className={`question ${question.state}`} data-question={question.state}>
      <p>{question.text}</p>
      {open && live ? (
        <div className="answers">
          <input value={text} onChange={(event) => setText(event.target.value)} placeholder="in words, if you like" />
          <button className="yes" disabled={sent} onClick={() => answer(true)}>
            Yes
          </button>
          <button className="no" disabled={sent} onClick={() => answer(false)}>
            No
          </button>
          <a href={linkOf(question)} target="_blank" rel="noreferrer">
            by link
          </a>
        </div>
      ) : (
        <p className="answered">{ANSWERS[question.state] ?? "It was not answered"}</p>
      )}
    </div>
  );
}
