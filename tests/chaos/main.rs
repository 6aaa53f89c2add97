//! Real processes, real services, real faults: whatever dies, stops or hangs, what is stored
//! is what Kafka had, once.

mod proxy;
mod proxy_tests;
