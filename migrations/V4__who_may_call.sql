-- Who may call. A program of version 3 beside it does not know of tokens and asks nobody for one:
-- make the first token when all replicas have been replaced.

CREATE TABLE tokens (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    sha256 bytea NOT NULL UNIQUE CHECK (length(sha256) = 32),
    scope text NOT NULL CHECK (scope IN ('read', 'write', 'admin')),
    topics text[] NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz
);
CREATE UNIQUE INDEX tokens_name ON tokens (name) WHERE revoked_at IS NULL;
COMMENT ON TABLE tokens IS 'Who may call. While it has never had a row, nobody is asked; a revoked token keeps its row, so that revoking the last one opens nothing';
COMMENT ON COLUMN tokens.id IS 'Our own key for the token';
COMMENT ON COLUMN tokens.name IS 'Whom it was made for; the login where it is sent as Basic. A revoked token''s name may be given again';
COMMENT ON COLUMN tokens.sha256 IS 'Hash of the token, which is kept nowhere: 32 random bytes need no slower one';
COMMENT ON COLUMN tokens.scope IS 'What it may do; each scope includes those before it: read, write, admin';
COMMENT ON COLUMN tokens.topics IS 'Patterns with * and ? of the topics that it may have; empty for all';
COMMENT ON COLUMN tokens.created_at IS 'When it was made';
COMMENT ON COLUMN tokens.expires_at IS 'From when on it is refused; null for never';
COMMENT ON COLUMN tokens.revoked_at IS 'When it was revoked; null while it counts';
COMMENT ON COLUMN tokens.last_used_at IS 'When a replica was last shown it, to about a minute; a hint for people who clean up';
