//! The store: objects on a disk or in a bucket, each written once and never changed.
//!
//! An object is stored under a name that no other attempt can use (see [`layout`]), is there
//! as a whole or not at all, and counts only once a commit names it: what is found here says
//! nothing, what Postgres says does. Parts of uploads that a crash left behind in a bucket
//! are invisible and out of reach; a lifecycle rule of the bucket removes them.

mod error;
pub mod layout;
mod local;
mod objects;
mod open;
mod reader;
mod sink;
mod upload;

#[cfg(test)]
mod fake_bucket;
#[cfg(test)]
mod tests;

pub use error::{Cause, StoreError};
pub use objects::{ListedObject, Store};
pub use reader::ObjectReader;
pub use sink::{ObjectSink, UploadHandle};
pub use upload::{ObjectWriter, StoredObject};
