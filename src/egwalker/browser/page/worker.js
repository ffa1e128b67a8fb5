// A service worker: the pages open without a connection, too. What is in the documents is kept elsewhere, see store.js.

const CACHE = "egwalker";
const PATIENCE = 4000; // milliseconds for a connection that may be there or not
const scope = new URL(self.registration.scope);
const files = new URL("-/", scope);

self.addEventListener("install", (event) => event.waitUntil(fill()));
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

/** Keep all files, not only those that were asked for before this worker was there. */
async function fill() {
  const names = await (await fetch(new URL("files.json", files))).json();
  const cache = await caches.open(CACHE);
  await cache.addAll(names.filter((name) => !name.endsWith(".txt")).map((name) => new URL(name, files).href));
  await self.skipWaiting();
}

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const url = new URL(request.url);
  if (request.method !== "GET" || !url.href.startsWith(scope.href)) return;
  if (url.href.startsWith(files.href)) {
    event.respondWith(newest(request, url.href));
  } else if (request.mode === "navigate" && !url.search) {
    const name = url.pathname.slice(scope.pathname.length);
    if (!name.includes("/")) event.respondWith(newest(request, new URL(`page/${name ? "editor" : "index"}.html`, files).href));
  }
});

/** What the server has, kept for later; what is kept if it does not answer. */
async function newest(request, kept) {
  const cache = await caches.open(CACHE);
  const old = await cache.match(kept, { ignoreVary: true });
  const asked = fetch(request).then(async (response) => {
    if (response.status === 200) await cache.put(kept, response.clone());
    // What stands before a server says so when that is away.
    else if (response.status >= 502) throw new Error(`status ${response.status}`);
    return response;
  });
  if (!old) return asked;
  let timer;
  const patience = new Promise((_, giveUp) => { timer = setTimeout(giveUp, PATIENCE, new Error("no answer")); });
  try {
    return await Promise.race([asked, patience]);
  } catch {
    asked.catch(() => {});
    return old;
  } finally {
    clearTimeout(timer);
  }
}
