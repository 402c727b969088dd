// The only script of the pages: requests the page again every ten seconds while it is visible, and shows when no answer arrives.
// A page works without it, and shows when it was made. Inserts parsed nodes, never text as markup.

/** The script's text; the policy names its hash. */
export const REFRESH = `
(() => {
  const line = document.querySelector("#refresh");
  const notice = document.querySelector("#notice");
  const button = document.createElement("button");
  const text = document.createElement("span");
  let paused = false;
  let heardAt = new Date();
  const show = (problem) => {
    button.textContent = paused ? "Refresh again" : "Pause refreshing";
    text.textContent = paused ? "Paused. " : problem ? problem + " " : "Refreshes every 10 seconds. ";
    document.body.classList.toggle("stale", Boolean(problem));
  };
  const announce = (words) => {
    if (notice.textContent !== words) notice.textContent = words;
  };
  const accept = (page) => {
    const now = document.querySelector("#live");
    const next = page && page.querySelector("#live");
    if (!next) return failed();
    heardAt = new Date();
    show();
    if (now.contains(document.activeElement) || !document.getSelection().isCollapsed) return;
    if (now.dataset.state !== next.dataset.state) announce("Now: " + next.dataset.state);
    document.title = page.title;
    now.replaceWith(document.importNode(next, true));
  };
  const failed = () => {
    const words = "No answer since " + heardAt.toISOString().slice(11, 19) + " UTC.";
    show(words + " This page shows the state at that time.");
    announce(words);
  };
  const ask = () => {
    if (paused || document.hidden) return;
    const request = new XMLHttpRequest();
    request.open("GET", location.pathname);
    request.responseType = "document";
    request.timeout = 9000;
    request.onload = () => (request.status === 200 ? accept(request.responseXML) : failed());
    request.onerror = request.ontimeout = failed;
    request.send();
  };
  button.type = "button";
  button.onclick = () => {
    paused = !paused;
    show();
    ask();
  };
  line.replaceChildren(text, button);
  show();
  setInterval(ask, 10000);
  document.addEventListener("visibilitychange", ask);
})();
`;
