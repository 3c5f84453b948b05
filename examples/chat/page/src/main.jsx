import { useChat } from "@ai-sdk/react";
import { DefaultChatTransport } from "ai";
import { useEffect, useState } from "react";
import { createRoot } from "react-dom/client";

const API = "/api/chat";

// A chat's id is in the address, and its messages are in the browser: both outlive a reload.
const id = (location.hash ||= `#${crypto.randomUUID()}`).slice(1);
const saved = JSON.parse(localStorage.getItem(id) ?? "[]");

const transport = new DefaultChatTransport({
  api: API,
  // The last answer from its first chunk, also when it has ended while nobody looked.
  prepareReconnectToStreamRequest: ({ api }) => ({ api: `${api}/${id}/stream?startIndex=0` }),
});

function Chat() {
  const [text, setText] = useState("");
  const chat = useChat({ id, messages: saved, resume: saved.length > 0, transport });
  const { messages, status, error, sendMessage, resumeStream } = chat;
  const busy = status === "submitted" || status === "streaming";

  useEffect(() => {
    if (messages.length) localStorage.setItem(id, JSON.stringify(messages));
  }, [messages]);

  useEffect(() => {
    // The connection broke, not the run: come back until it is there again.
    if (status !== "error" || !(error instanceof TypeError)) return undefined;
    const timer = setTimeout(() => resumeStream(), 500);
    return () => clearTimeout(timer);
  }, [status, error]);

  function send(event) {
    event.preventDefault();
    sendMessage({ text });
    setText("");
  }

  return (
    <>
      {messages.map((message) => (
        <div key={message.id} className={message.role}>
          {message.parts.map((part, at) => part.type === "text" && <p key={at}>{part.text}</p>)}
        </div>
      ))}
      <p id="status">{error && status === "error" ? error.message : status}</p>
      <form onSubmit={send}>
        <input value={text} onChange={(event) => setText(event.target.value)} placeholder="Say something" />
        {busy ? (
          <button type="button" onClick={() => fetch(`${API}/${id}/stop`, { method: "POST" })}>Stop</button>
        ) : (
          <button disabled={!text}>Send</button>
        )}
      </form>
    </>
  );
}

createRoot(document.getElementById("root")).render(<Chat />);
