//! Strandline takes snapshots of Kafka topics: someone names a topic and a window of time,
//! and gets exactly the events of that window as Parquet files.
//!
//! The story, in the order in which the modules are listed: [`settings`] say where things
//! are; [`app`] puts them together. A request comes in through [`api`] and becomes a row in
//! Postgres ([`db`]). A worker ([`job`]) takes it up: it asks Kafka ([`kafka`]) which offsets
//! the window covers, lets the pure core ([`snapshot`]) work out what is stored, missing and
//! lost, records that, reads what is missing, writes it as Parquet ([`data_file`]) into the
//! object store ([`store`]), and commits file and offsets in one transaction. Whoever asks
//! is told, at any time, what is held, what is not, and why.

pub mod settings;
pub mod telemetry;

pub mod app;
pub mod background;
pub mod foreground;
pub mod health;
pub mod server;
pub mod tokens;

pub mod api;
pub mod job;
pub mod snapshot;

pub mod data_file;
pub mod db;
pub mod kafka;
pub mod store;

pub mod fault;
pub mod metrics;
pub mod story;
pub mod trace;
