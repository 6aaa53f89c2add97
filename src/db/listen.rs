//! Listening to what Postgres tells. Hints only: whoever misses one finds the same by asking.

use std::time::Duration;

use super::{Attempt, Database, DbError, Notification, TOKENS_CHANNEL};

/// Told when there are new tasks or one was given back.
pub const TASKS_CHANNEL: &str = "strandline_tasks";

/// Told, with a snapshot's id, when a run of it has ended.
pub const ENDED_CHANNEL: &str = "strandline_ended";

const RECONNECT_AFTER: Duration = Duration::from_secs(1);

/// Listens for ever, on a connection of its own, and calls `told` for each notification.
/// `connected` is called whenever a connection begins: notifications may have been missed.
pub async fn listen(db: &Database, told: &impl Fn(&Notification), connected: impl Fn()) {
    loop {
        if let Err(error) = listen_once(db, told, &connected).await {
            tracing::warn!(%error, "can't listen to the database; trying again");
        }
        tokio::time::sleep(RECONNECT_AFTER).await;
    }
}

async fn listen_once(
    db: &Database,
    told: &impl Fn(&Notification),
    connected: &impl Fn(),
) -> Result<(), DbError> {
    // The client is kept: dropping it ends the connection.
    let (client, mut notifications) = db.dedicated().await?;
    client
        .batch_execute(&format!(
            "LISTEN {TASKS_CHANNEL}; LISTEN {ENDED_CHANNEL}; LISTEN {TOKENS_CHANNEL}"
        ))
        .await
        .attempt("listen for notifications")?;
    connected();
    while let Some(notification) = notifications.recv().await {
        told(&notification);
    }
    Ok(())
}
