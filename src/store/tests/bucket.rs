//! The contract with buckets that are fakes, one of S3 and one of Google; `tests/stores` has
//! real ones.

use super::contract::{self, Place, Unfinished};
use super::fake_bucket::FakeBucket;
use super::{google, s3};

/// Uploads come on pages of two.
fn paged() -> FakeBucket {
    let bucket = FakeBucket::start(|_| None);
    bucket.contents().page = 2;
    bucket
}

mod of_s3 {
    use super::*;

    async fn open() -> Place {
        let bucket = paged();
        let (store, again) = (s3(&bucket.endpoint), s3(&bucket.endpoint));
        Place {
            store,
            again,
            unfinished: Unfinished::AsUploads,
            many: 300,
            _guard: Box::new(bucket),
        }
    }

    contract!(open);
}

mod of_google {
    use super::*;

    async fn open() -> Place {
        let bucket = paged();
        let (store, again) = (google(&bucket.endpoint), google(&bucket.endpoint));
        Place {
            store,
            again,
            unfinished: Unfinished::AsUploads,
            many: 300,
            _guard: Box::new(bucket),
        }
    }

    contract!(open);
}
