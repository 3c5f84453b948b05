import { useState } from "react";

/** The finished application, as the last call of show_app has it. */
export function Preview({ messages }) {
  const [count, setCount] = useState(0);
  const shown = messages.flatMap((message) => message.parts).filter((part) => part.type === "tool-show_app");
  const calls = shown.filter((part) => part.state === "output-available");
  const last = calls.at(-1);
  return (
    <section className="preview">
      <div className="bar">
        <i />
        <i />
        <i />
        <span className="address">{last ? last.output.url : "nothing to see yet"}</span>
        {last && <button onClick={() => setCount(count + 1)}>Reload</button>}
      </div>
      {last ? (
        <iframe
          id="app"
          key={`${last.toolCallId}-${calls.length}-${count}`}
          src={last.output.url}
          sandbox="allow-scripts allow-forms allow-modals"
          title="The finished application"
        />
      ) : (
        <div className="nothing">
          <p>The finished application comes here.</p>
        </div>
      )}
    </section>
  );
}
