// How things are called, and what they mean, in plain words.

/** What a window of time can be, worst first: that is what a day shows that holds several. */
export const STATUSES = {
  failed: { word: "failed", means: "the last run ended with an error; what was stored before stays" },
  lost: { word: "partial loss", means: "some offsets were gone from Kafka before they could be stored" },
  uncertain: { word: "loss possible", means: "retention may have taken events before anyone looked" },
  running: { word: "running", means: "a worker is storing it now" },
  queued: { word: "queued", means: "accepted, and waiting for a worker" },
  cancelled: { word: "cancelled", means: "someone stopped it; what was stored stays" },
  missing: { word: "missing", means: "no snapshot has this time" },
  provisional: { word: "provisional", means: "stored so far, and more may come" },
  settled: { word: "settled", means: "all there is is stored; a late event would still be added" },
  sealed: { word: "sealed", means: "complete for good: nothing can be added any more" },
};

const ORDER = Object.keys(STATUSES);
export const worse = (a, b) => (a === null || ORDER.indexOf(b) < ORDER.indexOf(a) ? b : a);

/** The one word for a snapshot, or for a window of a coverage. */
export function statusOf({ state, completeness, lost_offsets, uncertain_partitions, result }) {
  if (state !== "succeeded") return state;
  if ((result?.lost_offsets ?? lost_offsets) > 0) return "lost";
  if ((result?.uncertain_partitions ?? uncertain_partitions) > 0) return "uncertain";
  return completeness ?? "provisional";
}

export const isOpen = (state) => state === "queued" || state === "running";

export const number = (value) => value.toLocaleString("en");

/** `1 file`, `2 files`. */
export const count = (value, one, many = `${one}s`) => `${number(value)} ${value === 1 ? one : many}`;

export function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let unit = 0;
  let size = value;
  while (size >= 1000 && unit < units.length - 1) {
    size /= 1000;
    unit += 1;
  }
  return `${unit > 0 && size < 10 ? size.toFixed(1) : Math.round(size)} ${units[unit]}`;
}

export const percent = (fraction) => `${Math.floor(fraction * 100)} %`;

/** What is lost, in few words: what nobody can know does not pass for nothing. */
export function lostWords(offsets, uncertain, verb = "") {
  if (offsets > 0) return `${count(offsets, "offset")}${verb}${uncertain ? ", perhaps more" : ""}`;
  return (uncertain ? "perhaps some" : "nothing") + verb;
}

/** What a snapshot lacks and why, a sentence each; nothing if it lacks nothing. */
export function losses(result) {
  if (!result) return [];
  const said = [];
  if (result.lost_offsets > 0) {
    said.push(
      `${count(result.lost_offsets, "offset")} of the window had been removed from Kafka before ` +
        `${result.lost_offsets === 1 ? "it" : "they"} could be stored: at most as many events are lost.`,
    );
  }
  if (result.uncertain_partitions > 0) {
    said.push(
      `In ${count(result.uncertain_partitions, "partition")} nobody looked before retention ` +
        "reached the window's start, so it can't be told whether events were removed there.",
    );
  }
  return said;
}

/** What is odd about what is stored, a sentence each. */
export function oddities(result) {
  if (!result) return [];
  const said = [];
  if (result.out_of_window_records > 0) {
    const events = count(result.out_of_window_records, "stored event");
    said.push(
      `${events} ${result.out_of_window_records === 1 ? "carries" : "carry"} a timestamp outside the ` +
        "window, or none: late or early, and kept where it arrived.",
    );
  }
  if (result.poison_records > 0) {
    said.push(
      `${count(result.poison_records, "event")} stamped far in the future: stored, but not taken for the ` +
        "end of a window.",
    );
  }
  return said;
}

const ERRORS = {
  TOPIC_NOT_FOUND: "Kafka has no such topic.",
  TOPIC_RECREATED: "The topic was deleted and made again while the snapshot was taken.",
  DATA_LOST: "Events of the window are lost, and this snapshot was asked to fail then.",
  KAFKA_AUTH: "Kafka does not let Strandline in.",
  STORAGE_AUTH: "The storage does not let Strandline in.",
  KAFKA_UNAVAILABLE: "Kafka could not be reached for as long as it was tried.",
  READ_STALLED: "Reading from Kafka came to a halt.",
  STORAGE_UNAVAILABLE: "The storage could not be reached for as long as it was tried.",
  DATABASE_UNAVAILABLE: "The database could not be reached for as long as it was tried.",
  INTERNAL: "Strandline met a defect of its own.",
};

/** A run's error, before its own message. */
export const errorWords = (error) => ERRORS[error.code] ?? "The run ended with an error.";

/** What to do about it. */
export const errorAdvice = (error) =>
  error.retryable
    ? "The same request, sent again, goes on from what is stored."
    : "Sent again unchanged, it would fail again.";
