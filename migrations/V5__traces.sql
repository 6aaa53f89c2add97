-- Who asked for a run in whose trace. A program of version 4 beside it leaves the column empty: the
-- work of the runs that it records is in no caller's trace.

ALTER TABLE runs ADD COLUMN trace_parent text CHECK (length(trace_parent) = 55);
COMMENT ON COLUMN runs.trace_parent IS 'The span that the run belongs to, as the header traceparent of W3C Trace Context has it; null for a run that nobody asked for, or not in a trace';
