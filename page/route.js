// Where the page is: `#/coverage/flights?month=2013-01`. The server sees none of it.

import { useEffect, useState } from "./vendor/hooks.js";

/** `{path, query}`: the decoded parts of the path, and a plain object of what follows. */
export function read(hash) {
  const [path, query] = hash.replace(/^#/, "").split("?", 2);
  return { path: path.split("/").filter(Boolean).map(decode), query: new URLSearchParams(query ?? "") };
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** A link to a path, with those of the query's values that are not empty; a list is repeated. */
export function to(path, query = {}) {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const one of [value].flat()) {
      if (one !== undefined && one !== null && one !== "") params.append(name, one);
    }
  }
  const text = params.toString().replaceAll("%3A", ":").replaceAll("%2F", "/");
  return `#/${path.map(encodeURIComponent).join("/")}${text && `?${text}`}`;
}

export const go = (link) => {
  location.hash = link;
};

/** Goes there without a step in the browser's history. */
export const goInstead = (link) => location.replace(link);

export function useRoute() {
  const [route, setRoute] = useState(() => read(location.hash));
  useEffect(() => {
    const listen = () => setRoute(read(location.hash));
    addEventListener("hashchange", listen);
    return () => removeEventListener("hashchange", listen);
  }, []);
  return route;
}
