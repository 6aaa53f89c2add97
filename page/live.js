// What a view shows stays as it is while it is asked for anew: by the clock while somebody looks,
// when the service is back, when the token changes. An error never takes away what is there.

import { connection, session, Away } from "./api.js";
import { useStore } from "./store.js";
import { useCallback, useEffect, useRef, useState } from "./vendor/hooks.js";

const RETRY_SECONDS = 5;

/**
 * Loads, and keeps loading. `key` says what is shown: with another key the old data goes. `load`
 * gets a signal and the data there is, which it may give back if nothing has changed. `every`
 * tells from the data after how many milliseconds to ask again; null for never. With another
 * `stamp` it is asked for at once, and stays until the answer comes.
 */
export function useLive(key, load, every, stamp) {
  const [state, setState] = useState({ key, data: null, error: null, at: null });
  const { version } = useStore(session);
  const { returned } = useStore(connection);
  const latest = useRef({});
  latest.current = { load, every };
  const current = useRef(state);
  const again = useRef(() => {});

  useEffect(() => {
    const abort = new AbortController();
    let timer = null;
    let busy = false;
    let askedAgain = false;
    const settle = (change) => {
      const old = current.current;
      const base = old.key === key ? old : { key, data: null, error: null, at: null };
      current.current = { ...base, ...change };
      setState(current.current);
    };
    const plan = (milliseconds) => {
      clearTimeout(timer);
      if (milliseconds !== null) timer = setTimeout(run, milliseconds);
    };
    async function run() {
      if (busy) askedAgain = true;
      if (busy || abort.signal.aborted) return;
      // Who is away is asked for by the connection alone; a hidden page waits until it is seen.
      if (connection.get().since !== null || document.hidden) return;
      busy = true;
      askedAgain = false;
      clearTimeout(timer);
      const data = current.current.key === key ? current.current.data : null;
      try {
        const found = await latest.current.load(abort.signal, data);
        if (abort.signal.aborted) return;
        settle({ data: found, error: null, at: Date.now() });
        plan(latest.current.every?.(found) ?? null);
      } catch (error) {
        if (abort.signal.aborted || error.name === "AbortError") return;
        if (error instanceof Away) return;
        settle({ error });
        if (error.document?.retryable) plan((error.retryAfter ?? RETRY_SECONDS) * 1000);
        if (!error.document) console.error(error);
      } finally {
        busy = false;
        if (askedAgain) run();
      }
    }
    const seen = () => {
      if (!document.hidden) run();
    };
    again.current = run;
    document.addEventListener("visibilitychange", seen);
    if (current.current.key !== key) settle({});
    run();
    return () => {
      abort.abort();
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", seen);
    };
  }, [key, stamp, version, returned]);

  const reload = useCallback(() => again.current(), []);
  const shown = state.key === key ? state : { key, data: null, error: null, at: null };
  return { ...shown, reload };
}

/** The time, so often. */
export function useNow(milliseconds) {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), milliseconds);
    return () => clearInterval(timer);
  }, [milliseconds]);
  return now;
}
