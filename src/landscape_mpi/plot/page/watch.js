// A page that the command `watch` serves loads itself anew when its files have changed, and takes along what is chosen.

const KEPT = "landscape_mpi";

function takeUp() {
  const kept = JSON.parse(sessionStorage.getItem(KEPT) ?? "null");
  sessionStorage.removeItem(KEPT);
  if (kept && METRICS.has(kept.metric)) Object.assign(state, kept);
}

async function lookForNewer() {
  if (document.hidden || pointer.down) return;
  try {
    const answer = await fetch("/", { method: "HEAD", cache: "no-store" });
    if (!answer.ok || answer.headers.get("ETag") === PAGE.watch.tag) return;
  } catch {
    return; // the command has ended: the page stays as it is
  }
  sessionStorage.setItem(KEPT, JSON.stringify(state));
  location.reload();
}

if (PAGE.watch) {
  takeUp();
  setInterval(lookForNewer, 1000 * PAGE.watch.seconds);
}
