//! Tests against a real Kafka, a real Postgres and real files, in one binary.
//!
//! `make test` brings what they need. By hand: `make services-up`, then
//! `eval "$(scripts/services.sh env)"` and `cargo test`.

mod api;
mod auth;
mod bad_input;
mod boundaries;
mod cancel;
mod collector;
mod command_line;
mod coverage;
mod crashes;
mod curl;
mod first_light;
mod harness;
mod history;
mod kafka;
mod leases;
mod logs;
mod loss;
mod memory;
mod metrics;
mod overlap;
mod page;
mod process;
mod replicas;
mod rows;
mod runs;
mod schema;
mod sealing;
mod secrets;
mod serving;
mod sweeping;
mod topics;
mod traces;
