//! Real processes, real services, real faults: whatever dies, stops or hangs, what is stored
//! is what Kafka had, once.

mod audit;
mod check;
mod dice;
mod faults;
mod files;
mod fleet;
mod leaders;
mod measure;
mod objects;
mod oracle;
mod proxy;
mod proxy_tests;
mod random;
mod replica;
mod requests;
mod scenarios;
mod services;
mod stage;
mod stored;
mod topics;
