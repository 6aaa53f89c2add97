// What several parts of the page share: a value, and who wants to hear when it changes.

import { useEffect, useState } from "./vendor/hooks.js";

export function store(value) {
  const listeners = new Set();
  return {
    get: () => value,
    set(change) {
      value = { ...value, ...change };
      for (const listener of [...listeners]) listener(value);
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

export function useStore(shared) {
  const [value, setValue] = useState(shared.get());
  useEffect(() => {
    setValue(shared.get());
    return shared.subscribe(setValue);
  }, [shared]);
  return value;
}

/** What a screen reader is told, politely. */
export const announcement = store({ text: "" });
export const announce = (text) => announcement.set({ text });
