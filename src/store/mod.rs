//! The store: objects on a disk or in a bucket, each written once and never changed.
//!
//! An object is stored under a name that no other attempt can use (see [`layout`]), is there
//! as a whole or not at all, and counts only once a commit names it: what is found here says
//! nothing, what Postgres says does.

mod bucket;
mod cause;
mod check;
mod error;
pub mod layout;
mod local;
mod objects;
mod open;
mod owner;
mod reader;
mod sink;
mod timed;
mod unfinished;
mod upload;

#[cfg(test)]
mod tests;

pub use cause::Cause;
pub use error::StoreError;
pub use objects::{ListedObject, Store};
pub use owner::OwnerClaim;
pub use reader::ObjectReader;
pub use sink::{ObjectSink, UploadHandle};
pub use unfinished::ListedUpload;
pub use upload::{ObjectWriter, StoredObject};
