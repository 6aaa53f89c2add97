// What the page does, as lines for a terminal.

import { session } from "./api.js";

const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

/** A call of the API with curl. The token is never in it, only where it would be. */
export function curl(method, path, body) {
  const lines = [
    `curl --fail-with-body ${method === "GET" || body ? "" : `-X ${method} `}${quoted(location.origin + path)}`,
  ];
  if (session.get().token) lines.push(`-H "authorization: Bearer $STRANDLINE_TOKEN"`);
  if (body) lines.push(`-H 'content-type: application/json'`, `-d ${quoted(JSON.stringify(body))}`);
  return lines.join(" \\\n  ");
}
