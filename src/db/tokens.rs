//! Tokens: who may call. The token itself is never here, only its hash.

use tokio_postgres::Row;
use uuid::Uuid;

use super::{Attempt, Database, DbError, DbTime};
use crate::snapshot::{Grant, Scope, Timestamp, TopicGlob};

/// Told when a token was made or revoked.
pub const TOKENS_CHANNEL: &str = "strandline_tokens";

/// Tokens that are kept in mind. Those that count come first, so that only ones revoked long
/// ago are left out.
const MOST_TOKENS: i64 = 10_000;

/// A token to be made.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// Whom it is for.
    pub name: String,
    /// SHA-256 of it.
    pub sha256: [u8; 32],
    /// What it may do.
    pub grant: Grant,
    /// After how many days it expires.
    pub expires_in_days: Option<u32>,
}

/// A token, as it is by the database's clock.
#[derive(Clone, Debug)]
pub struct TokenRow {
    /// Our own key.
    pub id: Uuid,
    /// Whom it was made for.
    pub name: String,
    /// SHA-256 of it.
    pub sha256: [u8; 32],
    /// What it may do.
    pub grant: Grant,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is refused.
    pub expires_at: Option<Timestamp>,
    /// Whether that was before this row was read.
    pub expired: bool,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// When it was last seen, to about a minute.
    pub last_used_at: Option<Timestamp>,
}

/// Records a token. `false` if there is one of this name that was not revoked.
pub async fn create_token(db: &Database, id: Uuid, token: &NewToken) -> Result<bool, DbError> {
    let client = db.client().await?;
    let topics: Vec<&str> = token.grant.topics.iter().map(TopicGlob::as_str).collect();
    let days = token.expires_in_days.map(f64::from);
    let sql = "-- create_token
        WITH made AS (
            INSERT INTO tokens (id, name, sha256, scope, topics, expires_at)
            VALUES ($1, $2, $3, $4, $5, now() + make_interval(secs => $6::float8 * 86400))
            ON CONFLICT (name) WHERE revoked_at IS NULL DO NOTHING RETURNING id
        )
        SELECT pg_notify('strandline_tokens', '') FROM made";
    let sha256 = &token.sha256[..];
    let made = client
        .query(sql, &[&id, &token.name, &sha256, &token.grant.scope.as_str(), &topics, &days])
        .await
        .attempt("record the token")?;
    Ok(!made.is_empty())
}

/// Revokes the token of this name. `false` if there is none that was not revoked already.
pub async fn revoke_token(db: &Database, name: &str) -> Result<bool, DbError> {
    let client = db.client().await?;
    let sql = "-- revoke_token
        WITH revoked AS (
            UPDATE tokens SET revoked_at = now() WHERE name = $1 AND revoked_at IS NULL RETURNING id
        )
        SELECT pg_notify('strandline_tokens', '') FROM revoked";
    let revoked = client.query(sql, &[&name]).await.attempt("revoke the token")?;
    Ok(!revoked.is_empty())
}

/// All tokens, also revoked ones, by name and age; those that count first.
pub async fn list_tokens(db: &Database) -> Result<Vec<TokenRow>, DbError> {
    let client = db.client().await?;
    let sql = format!(
        "-- list_tokens
        SELECT id, name, sha256, scope, topics, created_at, expires_at,
            COALESCE(expires_at <= clock_timestamp(), false), revoked_at, last_used_at
        FROM tokens ORDER BY revoked_at DESC NULLS FIRST, name, created_at LIMIT {MOST_TOKENS}"
    );
    let rows = client.query(&sql, &[]).await.attempt("list the tokens")?;
    rows.iter().map(read_row).collect()
}

/// Notes that these tokens are used.
pub async fn note_use(db: &Database, ids: &[Uuid]) -> Result<(), DbError> {
    let client = db.client().await?;
    let sql = "-- note_use
        UPDATE tokens SET last_used_at = now() WHERE id = ANY($1)
            AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')";
    client.execute(sql, &[&ids]).await.attempt("note the use of tokens")?;
    Ok(())
}

fn read_row(row: &Row) -> Result<TokenRow, DbError> {
    let scope = Scope::from_name(row.get(3)).ok_or(DbError::unexpected("tokens.scope"))?;
    let globs = row.get::<_, Vec<&str>>(4);
    let globs = globs.into_iter().map(TopicGlob::parse).collect::<Result<_, _>>();
    let topics = globs.map_err(|_| DbError::unexpected("tokens.topics"))?;
    let time = |column| row.get::<_, Option<DbTime>>(column).map(Timestamp::from);
    Ok(TokenRow {
        id: row.get(0),
        name: row.get(1),
        sha256: row
            .get::<_, &[u8]>(2)
            .try_into()
            .map_err(|_| DbError::unexpected("tokens.sha256"))?,
        grant: Grant { scope, topics },
        created_at: row.get::<_, DbTime>(5).0,
        expires_at: time(6),
        expired: row.get(7),
        revoked_at: time(8),
        last_used_at: time(9),
    })
}
