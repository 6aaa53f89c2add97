// The page: what is always there, and the view that the address names.

import { Coverage } from "./coverage.js";
import { connection, get, session, signIn, signOut } from "./api.js";
import { useLive } from "./live.js";
import { Heading, html } from "./parts.js";
import { to, useRoute } from "./route.js";
import { Snapshot } from "./snapshot.js";
import { Snapshots } from "./snapshots.js";
import { announcement, useStore } from "./store.js";
import { Take } from "./take.js";
import { clock, floor, SECOND } from "./time.js";
import { Topics } from "./topics.js";
import { useEffect, useRef, useState } from "./vendor/hooks.js";
import { render } from "./vendor/preact.js";

const VIEWS = [
  ["coverage", "Coverage"],
  ["snapshots", "Snapshots"],
  ["take", "Take a snapshot"],
  ["topics", "Topics"],
];

function View({ path: [name = "coverage", ...rest], query }) {
  if (name === "coverage" && rest.length <= 1) return html`<${Coverage} topic=${rest[0]} query=${query} />`;
  if (name === "snapshots" && rest.length === 0) return html`<${Snapshots} query=${query} />`;
  if (name === "snapshots" && rest.length === 1) return html`<${Snapshot} key=${rest[0]} id=${rest[0]} />`;
  if (name === "take" && rest.length === 0) return html`<${Take} query=${query} />`;
  if (name === "topics" && rest.length === 0) return html`<${Topics} />`;
  return html`<${Heading} title="Nothing here" /><p>This address names no view. <a href="#/">Go to the coverage</a></p>`;
}

function App() {
  const route = useRoute();
  const { text } = useStore(announcement);
  const main = useRef(null);
  const place = route.path.join("/");
  const first = useRef(true);
  useEffect(() => {
    if (first.current) {
      first.current = false;
      return;
    }
    // A new view is read from its heading on.
    main.current.querySelector("h1")?.focus({ preventScroll: true });
    scrollTo(0, 0);
  }, [place]);
  return html`
    <a class="skip" href="#main" onClick=${(event) => {
      event.preventDefault();
      main.current.focus();
    }}>Skip to the content</a>
    <${Top} current=${route.path[0] ?? "coverage"} />
    <${Connection} />
    <main id="main" tabindex="-1" ref=${main}><${SignIn} /><${View} ...${route} /></main>
    <${Foot} />
    <div class="only-read" role="status" aria-live="polite">${text}</div>`;
}

function Top({ current }) {
  const { token } = useStore(session);
  return html`<header class="top">
    <a class="brand" href="#/"><svg viewBox="0 0 32 16" aria-hidden="true" focusable="false"><path d="M1 5c5 0 5 4 10 4s5-4 10-4 5 4 10 4" /><path d="M1 11c5 0 5 4 10 4s5-4 10-4 5 4 10 4" /></svg>
      Strandline</a>
    <nav aria-label="Views">${VIEWS.map(([name, title]) => html`<a key=${name} href=${to([name])} aria-current=${name === current ? "page" : undefined}>${title}</a>`)}</nav>
    ${token && html`<button type="button" class="quiet" onClick=${signOut}>Forget the token</button>`}
  </header>`;
}

/** Says that nobody answers. What is on the screen stays. */
function Connection() {
  const { since, problem } = useStore(connection);
  return html`<div role="status" class="connection">${
    since !== null &&
    html`<p>
    <strong>Strandline does not answer</strong> since ${clock(floor(since, SECOND))} UTC. ${problem && `${problem.message}. `}What you see is from before; it is being asked again.
  </p>`
  }</div>`;
}

/** Asks for the token where the API wants one, in the API's words. */
function SignIn() {
  const { refused, token } = useStore(session);
  const [shown, setShown] = useState(false);
  const field = useRef(null);
  useEffect(() => {
    if (refused) field.current?.focus();
  }, [refused]);
  if (!refused) return null;
  const submit = (event) => {
    event.preventDefault();
    const data = new FormData(event.currentTarget);
    const given = data.get("token").trim();
    if (given) signIn(given, data.get("keep") !== null);
  };
  return html`<section class="sign-in" aria-labelledby="sign-in">
    <h2 id="sign-in">${token ? "Another token is needed" : "A token is needed"}</h2>
    <p role="alert">${refused.message}</p>
    <form onSubmit=${submit}>
      <label class="field"><span>Token</span><input ref=${field} name="token" type=${shown ? "text" : "password"} required autocomplete="current-password" spellcheck=${false} /></label>
      <label><input type="checkbox" checked=${shown} onChange=${(event) => setShown(event.target.checked)} />Show it</label>
      <label><input type="checkbox" name="keep" />Keep it in this browser, not only in this tab</label>
      <button type="submit" class="primary">Use this token</button>
    </form>
    ${refused.document.request_id && html`<p class="fine">request <code>${refused.document.request_id}</code></p>`}
  </section>`;
}

function Foot() {
  const version = useLive("version", (signal) => get("/v1/version", signal));
  return html`<footer class="foot">
    <span>All times are UTC.</span>
    <a href="/docs">API</a>
    ${version.data && html`<span>Strandline ${version.data.version}</span>`}
  </footer>`;
}

render(html`<${App} />`, document.getElementById("app"));
