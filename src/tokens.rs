//! `strandline token`: who may call.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};

use serde_json::json;
use uuid::Uuid;

use crate::api::Secret;
use crate::app::{self, AppError, State};
use crate::db::{self, Database, NewToken, Sharing, TokenRow};
use crate::settings::{CreateTokenSettings, ListTokensSettings, TokenCommand};
use crate::snapshot::{Grant, TopicGlob};

/// Runs one of the commands.
///
/// # Errors
/// [`AppError`] if the database can't be reached, or the name does not fit.
pub async fn token(command: &TokenCommand) -> Result<(), AppError> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let database = match command {
        TokenCommand::Create(settings) => &settings.database,
        TokenCommand::List(settings) => &settings.database,
        TokenCommand::Revoke(settings) => &settings.database,
    };
    let state = State::open(database, Sharing::Join).await?;
    let done = match command {
        TokenCommand::Create(settings) => create(&state.db, settings).await,
        TokenCommand::List(settings) => list(&state.db, settings).await,
        TokenCommand::Revoke(settings) => revoke(&state.db, &settings.name).await,
    };
    state.close();
    done
}

async fn create(db: &Database, settings: &CreateTokenSettings) -> Result<(), AppError> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|error| AppError::io("get random bytes")(error.into()))?;
    let secret = Secret::new(&random);
    let token = NewToken {
        name: settings.name.clone(),
        sha256: secret.sha256(),
        grant: Grant { scope: settings.scope, topics: settings.topics.clone() },
        expires_in_days: settings.expires_in_days,
    };
    if !db::create_token(db, Uuid::now_v7(), &token).await? {
        let name = &token.name;
        return Err(AppError::setting(
            "--name",
            format!(
                "there is a token {name} already; take another name, or first strandline token revoke {name}"
            ),
        ));
    }
    app::print(&format!("{}\n", secret.reveal()))?;
    if std::io::stdout().is_terminal() {
        let _ = writeln!(
            std::io::stderr(),
            "keep it now: it is stored hashed and can't be shown again"
        );
    }
    Ok(())
}

async fn revoke(db: &Database, name: &str) -> Result<(), AppError> {
    if db::revoke_token(db, name).await? {
        return app::print(&format!("revoked {name}; every replica refuses it within seconds\n"));
    }
    Err(AppError::setting(
        "NAME",
        format!("there is no token {name} to revoke; strandline token list shows all"),
    ))
}

async fn list(db: &Database, settings: &ListTokensSettings) -> Result<(), AppError> {
    let rows = db::list_tokens(db).await?;
    if settings.json {
        let tokens: Vec<_> = rows.iter().map(as_json).collect();
        return app::print(&format!("{:#}\n", json!(tokens)));
    }
    if rows.is_empty() {
        return app::print(
            "there are no tokens: whoever reaches the address may call; strandline token create makes the first\n",
        );
    }
    app::print(&table(&rows))
}

fn state(row: &TokenRow) -> &'static str {
    match row {
        TokenRow { revoked_at: Some(_), .. } => "revoked",
        TokenRow { expired: true, .. } => "expired",
        _ => "valid",
    }
}

fn as_json(row: &TokenRow) -> serde_json::Value {
    let topics: Vec<&str> = row.grant.topics.iter().map(TopicGlob::as_str).collect();
    json!({
        "name": row.name, "state": state(row), "scope": row.grant.scope.as_str(), "topics": topics,
        "created_at": row.created_at, "expires_at": row.expires_at, "revoked_at": row.revoked_at,
        "last_used_at": row.last_used_at,
    })
}

fn table(rows: &[TokenRow]) -> String {
    let mut lines = vec![
        ["NAME", "STATE", "SCOPE", "TOPICS", "CREATED", "EXPIRES", "LAST USED"].map(String::from),
    ];
    lines.extend(rows.iter().map(|row| {
        let time = |time: Option<crate::snapshot::Timestamp>, none: &str| {
            time.map_or(none.to_owned(), |time| time.to_string())
        };
        let topics: Vec<&str> = row.grant.topics.iter().map(TopicGlob::as_str).collect();
        [
            row.name.clone(),
            state(row).to_owned(),
            row.grant.scope.as_str().to_owned(),
            if topics.is_empty() { "all".to_owned() } else { topics.join(" ") },
            row.created_at.to_string(),
            time(row.expires_at, "never"),
            time(row.last_used_at, "never"),
        ]
    }));
    let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let mut row = String::new();
        for (cell, width) in line.iter().zip(&widths) {
            let _ = write!(row, "{cell:width$}  ");
        }
        text += row.trim_end();
        text.push('\n');
    }
    text
}
