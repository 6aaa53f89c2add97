//! Times in Postgres. Neither jiff's timestamps nor chrono's cover what both Kafka and
//! Postgres can hold (jiff ends a day before 9999-12-31T23:59:59.999Z), so the wire
//! format is read and written here.

use std::error::Error;

use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

use crate::snapshot::Timestamp;

/// A [`Timestamp`] as a `timestamptz`.
///
/// Written: what is outside of Postgres's years (4713 BC to 294276) becomes the nearest
/// time inside, because a producer may stamp what it likes and its file must be recorded
/// all the same. Read: what is finer than a millisecond is cut off, towards the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DbTime(pub Timestamp);

/// 2000-01-01T00:00:00Z, where Postgres counts from, in Unix milliseconds.
const EPOCH_MILLIS: i64 = 946_684_800_000;
/// Postgres's MIN_TIMESTAMP and the millisecond before its END_TIMESTAMP.
const MICROS: std::ops::RangeInclusive<i64> = -211_813_488_000_000_000..=9_223_371_331_199_999_000;

impl From<Timestamp> for DbTime {
    fn from(time: Timestamp) -> Self {
        DbTime(time)
    }
}

impl From<DbTime> for Timestamp {
    fn from(time: DbTime) -> Self {
        time.0
    }
}

impl ToSql for DbTime {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut bytes::BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        let micros = self.0.millis().saturating_sub(EPOCH_MILLIS).saturating_mul(1000);
        micros.clamp(*MICROS.start(), *MICROS.end()).to_sql(ty, out)
    }

    accepts!(TIMESTAMPTZ);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for DbTime {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        let micros = i64::from_sql(ty, raw)?;
        Ok(DbTime(Timestamp::from_millis(micros.div_euclid(1000) + EPOCH_MILLIS)))
    }

    accepts!(TIMESTAMPTZ);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::embedded::tests::TestServer;

    #[tokio::test]
    async fn times_survive_the_way_through_the_server() {
        let server = TestServer::start();
        let (client, _) = server.database().dedicated().await.expect("a connection");
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (EPOCH_MILLIS - 1, "1999-12-31T23:59:59.999Z"),
            (1_753_747_200_123, "2025-07-29T00:00:00.123Z"),
            (Timestamp::MAX.millis(), "9999-12-31T23:59:59.999Z"),
        ] {
            let time = DbTime(Timestamp::from_millis(millis));
            let row = client
                .query_one(
                    r#"SELECT $1::timestamptz, $2::text::timestamptz, $1::timestamptz + interval '999 microseconds',
                              ARRAY[$1::timestamptz], to_char($1 AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"#,
                    &[&time, &text],
                )
                .await
                .expect(text);
            assert_eq!(row.get::<_, DbTime>(0), time);
            assert_eq!(row.get::<_, DbTime>(1), time);
            assert_eq!(row.get::<_, DbTime>(2), time, "cut to the millisecond");
            assert_eq!(row.get::<_, Vec<DbTime>>(3), [time]);
            assert_eq!(row.get::<_, &str>(4), text);
        }
        for (stamped, kept) in [(i64::MAX, MICROS.end() / 1000), (i64::MIN, MICROS.start() / 1000)]
        {
            let time = DbTime(Timestamp::from_millis(stamped));
            let row = client.query_one("SELECT $1::timestamptz", &[&time]).await.expect("kept");
            assert_eq!(row.get::<_, DbTime>(0).0.millis(), kept + EPOCH_MILLIS);
        }
        let row = client.query_one("SELECT NULL::timestamptz, 'infinity'::timestamptz", &[]).await;
        let row = row.expect("a row");
        assert_eq!(row.get::<_, Option<DbTime>>(0), None);
        assert!(row.get::<_, DbTime>(1).0 > Timestamp::MAX);
    }
}
