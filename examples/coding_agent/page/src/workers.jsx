import { useEffect, useState } from "react";

const EVERY = 700;

/** Who answers and who works, and the button that kills. */
export function Workers() {
  const [about, setAbout] = useState(null);
  const [killed, setKilled] = useState([]);

  useEffect(() => {
    const look = () => fetch("/api/about").then((found) => found.json()).then(setAbout, () => setAbout(null));
    look();
    const timer = setInterval(look, EVERY);
    return () => clearInterval(timer);
  }, []);

  async function kill() {
    const found = await (await fetch("/api/kill", { method: "POST" })).json();
    setKilled([...killed, ...found.killed]);
  }

  if (about === null) return <div className="workers">The web server is away</div>;
  const pids = about.workers.filter((pid) => !killed.includes(pid));
  return (
    <div className="workers">
      <span className="model">{about.scripted ? "scripted model, real tools" : about.model}</span>
      {about.supervised && (
        <>
          <span id="worker" className={pids.length ? "alive" : "dead"} data-pids={pids.join(" ")}>
            {pids.length ? `worker ${pids.join(", ")}` : "the worker is dead"}
          </span>
          {killed.length > 0 && <span className="count">{killed.length} killed</span>}
          <button id="kill" onClick={kill} disabled={!pids.length}>
            kill -9
          </button>
        </>
      )}
      <a href="/" onClick={newChat}>
        New chat
      </a>
    </div>
  );
}

function newChat(event) {
  event.preventDefault();
  location.hash = crypto.randomUUID();
  location.reload();
}
