const teas = { Green: 120, Black: 180, Herbal: 300 };
const find = (id) => document.getElementById(id);
let whole = 180;
let left = whole;
let ticking = null;

function show() {
  const seconds = String(Math.ceil(left) % 60).padStart(2, "0");
  find("left").textContent = `${Math.floor(Math.ceil(left) / 60)}:${seconds}`;
  find("ring").style.strokeDashoffset = 100 * (1 - left / whole);
  find("start").textContent = ticking ? "Pause" : "Brew";
}

function stop() {
  clearInterval(ticking);
  ticking = null;
}

function brew() {
  const end = Date.now() + left * 1000;
  ticking = setInterval(() => {
    left = Math.max(0, (end - Date.now()) / 1000);
    if (left === 0) stop();
    show();
  }, 200);
}

function choose(seconds) {
  stop();
  whole = left = seconds;
  show();
}

for (const [name, seconds] of Object.entries(teas)) {
  const button = document.createElement("button");
  button.textContent = `${name} · ${seconds / 60} min`;
  button.onclick = () => choose(seconds);
  find("teas").append(button);
}

find("start").onclick = () => {
  if (ticking) stop();
  else brew();
  show();
};
find("reset").onclick = () => choose(whole);
show();
