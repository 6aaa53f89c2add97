//! The columns of a data file and how each of them is encoded.

use std::sync::{Arc, LazyLock};

use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

use super::DataFileError;

/// The columns' names, in the order in which they are in the file.
pub(super) const PARTITION: &str = "partition";
pub(super) const OFFSET: &str = "offset";
pub(super) const TIMESTAMP: &str = "timestamp";
pub(super) const TIMESTAMP_TYPE: &str = "timestamp_type";
pub(super) const KEY: &str = "key";
pub(super) const VALUE: &str = "value";
pub(super) const HEADERS: &str = "headers";

/// What [`DataFileError::Foreign`] says of a column that is not ours.
pub(super) const WRONG_TYPE: &str = "has another type";

/// Positions of the first leaf columns; what is pruned by is read by position.
pub(super) const PARTITION_LEAF: usize = 0;
pub(super) const OFFSET_LEAF: usize = 1;

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new(PARTITION, DataType::Int32, false),
        Field::new(OFFSET, DataType::Int64, false),
        Field::new(TIMESTAMP, timestamp_type(), true),
        Field::new(TIMESTAMP_TYPE, DataType::Utf8, true),
        Field::new(KEY, DataType::Binary, true),
        Field::new(VALUE, DataType::Binary, true),
        Field::new(HEADERS, DataType::List(header_field()), false),
    ]))
});

/// The schema of every data file.
pub(super) fn schema() -> SchemaRef {
    Arc::clone(&SCHEMA)
}

/// Checks that a file has our columns first and in order. What a later version may have
/// added behind them does no harm.
pub(super) fn check(found: &Schema) -> Result<(), DataFileError> {
    const NAMES: [&str; 7] = [PARTITION, OFFSET, TIMESTAMP, TIMESTAMP_TYPE, KEY, VALUE, HEADERS];
    for ((column, expected), index) in NAMES.into_iter().zip(SCHEMA.fields()).zip(0..) {
        let problem = match found.fields().get(index) {
            Some(field) if field.name() != column => "is not in its place",
            Some(field) if field.data_type() != expected.data_type() => WRONG_TYPE,
            Some(_) => continue,
            None => "is missing",
        };
        return Err(DataFileError::Foreign { column, problem });
    }
    Ok(())
}

/// Milliseconds in UTC, as Kafka counts them.
pub(super) fn timestamp_type() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

/// One element of `headers`. Parquet's specification names it `element`.
pub(super) fn header_field() -> Arc<Field> {
    Arc::new(Field::new("element", DataType::Struct(header_fields()), false))
}

/// What one header has.
pub(super) fn header_fields() -> Fields {
    Fields::from(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("value", DataType::Binary, true),
    ])
}

/// Bytes of a page before it is compressed. Twice as much makes files one in a hundred smaller,
/// and buffers so large that the system's allocator returns them after every page.
const PAGE_BYTES: usize = 512 << 10;

/// How the columns are encoded. The choices were measured: zstd 1 makes half of what snappy
/// does for a fifth of a microsecond an event, dictionaries of keys and values cost more
/// than they save, and offsets and times are small steps.
pub(super) fn properties(
    metadata: Vec<(String, String)>,
    row_group_rows: usize,
) -> Result<WriterProperties, ParquetError> {
    let level = ZstdLevel::try_new(1)?;
    let metadata =
        metadata.into_iter().map(|(key, value)| KeyValue::new(key, value)).collect::<Vec<_>>();
    let builder = WriterProperties::builder()
        .set_created_by(format!("strandline {}", env!("CARGO_PKG_VERSION")))
        .set_key_value_metadata((!metadata.is_empty()).then_some(metadata))
        .set_compression(Compression::ZSTD(level))
        .set_data_page_size_limit(PAGE_BYTES)
        .set_max_row_group_row_count(Some(row_group_rows))
        .set_sorting_columns(Some(sorted_by()))
        .set_statistics_enabled(EnabledStatistics::None);
    Ok(encodings(builder).build())
}

fn sorted_by() -> Vec<SortingColumn> {
    [PARTITION_LEAF, OFFSET_LEAF]
        .map(|leaf| SortingColumn {
            column_idx: leaf as i32,
            descending: false,
            nulls_first: false,
        })
        .to_vec()
}

fn encodings(builder: WriterPropertiesBuilder) -> WriterPropertiesBuilder {
    let path = |name: &str| ColumnPath::new(name.split('.').map(str::to_owned).collect());
    // Statistics of pages, and so of row groups too, are for what files are asked by; keys
    // and values would only leak into footers.
    let mut builder = builder
        .set_column_statistics_enabled(path(PARTITION), EnabledStatistics::Page)
        .set_column_statistics_enabled(path(OFFSET), EnabledStatistics::Page)
        .set_column_statistics_enabled(path(TIMESTAMP), EnabledStatistics::Page);
    for column in [OFFSET, TIMESTAMP] {
        builder = builder
            .set_column_dictionary_enabled(path(column), false)
            .set_column_encoding(path(column), Encoding::DELTA_BINARY_PACKED);
    }
    for column in [KEY, VALUE, "headers.list.element.value"] {
        builder = builder.set_column_dictionary_enabled(path(column), false);
    }
    builder
}
