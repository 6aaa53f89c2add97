//! What a consumer has fetched: one queue for each partition that it is assigned to, and one of
//! its own for the errors of brokers and the lines of its log.
//!
//! Events are taken in batches: rdkafka's own `poll`, one event at a time, costs a fifth of
//! all that reading costs, and drops the offset of an end of partition. A queue of its own
//! lets a partition be fetched while the one before it is read.

#![allow(
    unsafe_code,
    reason = "rdkafka 0.39 has no safe batches, offset of an end of partition, nor headers whose \
              keys are not UTF-8"
)]

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ffi::{CStr, c_int};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::bindings as rd;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::RDKafkaErrorCode;

use super::{Consumer, Owned, bytes_at, event_error, next_event, text_at};
use crate::kafka::call::{CallError, millis, name_of};
use crate::kafka::context::Context;
use crate::snapshot::{Event, Header, Timestamp, TimestampType};

/// Events that are taken at once: enough to make a call cheap, few enough to stay in a cache.
const BATCH: usize = 512;

/// A queue of librdkafka's. It must go before the consumer that it belongs to.
struct Queue(Owned<rd::rd_kafka_queue_t>);

// SAFETY: librdkafka's queues may be used from any thread.
unsafe impl Send for Queue {}

/// A consumer with a group, which partitions can be assigned to.
pub(in crate::kafka) struct AssignedConsumer {
    // Before the consumer, so that it is dropped before it.
    queue: Queue,
    consumer: Arc<Consumer>,
}

impl AssignedConsumer {
    /// `None` if the consumer was made without `group.id`.
    pub(in crate::kafka) fn new(consumer: Consumer) -> Option<Self> {
        // SAFETY: the handle is valid while `consumer` lives; the reference to the queue is
        // ours and given back before the consumer goes.
        let queue = unsafe {
            let queue = rd::rd_kafka_queue_get_consumer(consumer.client().native_ptr());
            Owned::new(queue, rd::rd_kafka_queue_destroy)
        };
        queue.map(|queue| AssignedConsumer { queue: Queue(queue), consumer: Arc::new(consumer) })
    }

    pub(in crate::kafka) fn consumer(&self) -> &Consumer {
        &self.consumer
    }

    pub(in crate::kafka) fn context(&self) -> &Context {
        self.consumer.client().context()
    }

    /// An error that is not of a partition, if there is one. Log lines go to the context.
    pub(in crate::kafka) fn next_error(&self) -> Option<CallError> {
        loop {
            let event = next_event(&self.queue.0, Duration::ZERO)?;
            // SAFETY: the event is valid.
            match unsafe { rd::rd_kafka_event_type(event.get()) } {
                rd::RD_KAFKA_EVENT_ERROR => {
                    if let Some(error) = event_error(&event) {
                        return Some(error);
                    }
                }
                rd::RD_KAFKA_EVENT_LOG => self.log(&event),
                _ => {}
            }
        }
    }

    fn log(&self, event: &Owned<rd::rd_kafka_event_t>) {
        let (mut facility, mut text, mut level) = (ptr::null(), ptr::null(), 0);
        // SAFETY: the event is valid and a log event; the texts live as long as it.
        let (facility, text) = unsafe {
            rd::rd_kafka_event_log(event.get(), &mut facility, &mut text, &mut level);
            (text_at(facility), text_at(text))
        };
        self.context().log_line(level, &facility, &text);
    }

    /// A queue for what will be fetched of a partition, to be made before the partition is
    /// assigned: what comes earlier would go to the consumer's own queue, and be lost.
    pub(in crate::kafka) fn queue_of(
        &self,
        topic: &str,
        partition: i32,
    ) -> Result<PartitionQueue, CallError> {
        let (handle, name) = (self.consumer.client().native_ptr(), name_of(topic)?);
        // SAFETY: the handle is valid while the consumer lives, the name is copied; the
        // reference to the queue is ours.
        let queue = unsafe {
            let queue = rd::rd_kafka_queue_get_partition(handle, name.as_ptr(), partition);
            let queue = Owned::new(queue, rd::rd_kafka_queue_destroy);
            queue.inspect(|queue| rd::rd_kafka_queue_forward(queue.get(), ptr::null_mut()))
        };
        let queue = queue.ok_or_else(|| CallError::of(RDKafkaErrorCode::UnknownPartition))?;
        Ok(PartitionQueue {
            taken: RefCell::new(VecDeque::with_capacity(BATCH)),
            false_position: Cell::new(None),
            queue: Queue(queue),
            _consumer: Arc::clone(&self.consumer),
        })
    }
}

/// What has been fetched of one partition.
pub(in crate::kafka) struct PartitionQueue {
    // In the order in which they have to go.
    taken: RefCell<VecDeque<Message>>,
    /// The position that the last error has made up.
    false_position: Cell<Option<i64>>,
    queue: Queue,
    _consumer: Arc<Consumer>,
}

/// What was in a partition's queue.
pub(in crate::kafka) enum Polled<'q> {
    /// An event of the topic.
    Record(Record<'q>),
    /// All before this offset, which was the last stable one, has been handed out.
    EndOfPartition(i64),
    /// Something is wrong with the partition, at this offset or at none.
    Error { error: CallError, offset: i64 },
}

impl PartitionQueue {
    /// What comes next; `None` if nothing is there.
    pub(in crate::kafka) fn next(&self) -> Option<Polled<'_>> {
        let mut taken = self.taken.borrow_mut();
        if taken.is_empty() {
            self.take(BATCH, Duration::ZERO, &mut taken);
        }
        let polled = taken.pop_front()?.polled();
        if let Polled::EndOfPartition(offset) | Polled::Error { offset, .. } = polled {
            self.false_position.set(offset.checked_add(1));
        }
        Some(polled)
    }

    /// Whether a position says nothing: librdkafka (2.12) puts it behind the offset of an end of
    /// partition or an error that is taken in a batch, as if something had been read there. No
    /// one need wait for a true one: a control record at that offset, which might have moved
    /// it there too, is followed by an event or by another end of partition.
    pub(in crate::kafka) fn is_false_position(&self, position: i64) -> bool {
        self.false_position.get() == Some(position)
    }

    /// Waits until something is there, and no longer than `timeout`. Whether there is.
    pub(in crate::kafka) fn wait(&self, timeout: Duration) -> bool {
        let mut taken = self.taken.borrow_mut();
        if taken.is_empty() {
            // A larger batch would be waited for until it is full.
            self.take(1, timeout, &mut taken);
        }
        !taken.is_empty()
    }

    /// Throws away what was fetched for an assignment that is over. librdkafka (2.12.1) does so by
    /// itself only for who looks into the queue, or when the consumer is closed.
    pub(in crate::kafka) fn discard(&self) {
        let mut taken = self.taken.borrow_mut();
        taken.clear();
        // It skips all that was fetched for an earlier assignment, and gives nothing.
        self.take(BATCH, Duration::ZERO, &mut taken);
        taken.clear();
    }

    fn take(&self, count: usize, timeout: Duration, into: &mut VecDeque<Message>) {
        let mut batch = [ptr::null_mut(); BATCH];
        let count = count.min(BATCH);
        // SAFETY: the queue is valid, and the batch has room for `count`.
        let taken = unsafe {
            let (queue, batch) = (self.queue.0.get(), batch.as_mut_ptr());
            rd::rd_kafka_consume_batch_queue(queue, millis(timeout), batch, count)
        };
        // It is less than nothing if the queue can't be read, which is not ours to handle.
        let taken = usize::try_from(taken).unwrap_or(0).min(count);
        into.extend(batch.iter().take(taken).copied().filter_map(NonNull::new).map(Message));
    }
}

/// A message of librdkafka's, ours to destroy. It must go before the consumer.
struct Message(NonNull<rd::rd_kafka_message_t>);

// SAFETY: a message belongs to whoever took it from its queue, on whatever thread.
unsafe impl Send for Message {}

impl Drop for Message {
    fn drop(&mut self) {
        // SAFETY: the message is ours, and this is the only place that destroys it.
        unsafe { rd::rd_kafka_message_destroy(self.0.as_ptr()) }
    }
}

impl Message {
    fn polled<'q>(self) -> Polled<'q> {
        // SAFETY: the message is valid; its error is read as the number that it is in C.
        let number = unsafe { (&raw const (*self.0.as_ptr()).err).cast::<c_int>().read() };
        let Some(error) = CallError::of_number(number) else {
            return Polled::Record(Record { message: self, _queue: PhantomData });
        };
        // SAFETY: the message is valid.
        let offset = unsafe { (*self.0.as_ptr()).offset };
        if error.code == RDKafkaErrorCode::PartitionEOF {
            return Polled::EndOfPartition(offset);
        }
        // SAFETY: the message is valid; the text lives as long as it and is copied.
        let reason = unsafe { text_at(rd::rd_kafka_message_errstr(self.0.as_ptr())) };
        let reason = if reason.is_empty() { error.reason } else { reason };
        Polled::Error { error: CallError { reason, ..error }, offset }
    }
}

/// An event of a topic, in librdkafka's memory.
pub(in crate::kafka) struct Record<'q> {
    message: Message,
    // The queue keeps the consumer alive, whose memory it is.
    _queue: PhantomData<&'q PartitionQueue>,
}

impl Record<'_> {
    pub(in crate::kafka) fn offset(&self) -> i64 {
        // SAFETY: the message is valid while the record lives.
        unsafe { self.message.0.as_ref().offset }
    }

    /// Where reading goes on behind it.
    pub(in crate::kafka) fn next_offset(&self) -> i64 {
        self.offset() + 1
    }

    /// The event as the core knows it. `headers` is empty and holds its headers afterwards.
    pub(in crate::kafka) fn event<'r>(
        &'r self,
        headers: &'r mut Vec<Header<'r>>,
    ) -> Result<Event<'r>, CallError> {
        self.read_headers(headers)?;
        let (timestamp, timestamp_type) = self.timestamp().unzip();
        // SAFETY: the message is valid while the record lives.
        let message = unsafe { self.message.0.as_ref() };
        // SAFETY: key and value live as long, and are null or have the lengths beside them.
        let (key, value) = unsafe {
            (bytes_at(message.key, message.key_len), bytes_at(message.payload, message.len))
        };
        Ok(Event {
            partition: message.partition,
            offset: message.offset,
            timestamp,
            timestamp_type,
            key,
            value,
            headers,
        })
    }

    fn timestamp(&self) -> Option<(Timestamp, TimestampType)> {
        use rd::rd_kafka_timestamp_type_t as Type;
        let mut kind = Type::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is valid; librdkafka writes one of the enum's values.
        let millis = unsafe { rd::rd_kafka_message_timestamp(self.message.0.as_ptr(), &mut kind) };
        let kind = match kind {
            Type::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE => return None,
            Type::RD_KAFKA_TIMESTAMP_CREATE_TIME => TimestampType::CreateTime,
            Type::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME => TimestampType::LogAppendTime,
        };
        // -1 is how the log writes "none".
        (millis != -1).then(|| (Timestamp::from_millis(millis), kind))
    }

    fn read_headers<'r>(&'r self, into: &mut Vec<Header<'r>>) -> Result<(), CallError> {
        let mut headers = ptr::null_mut();
        // SAFETY: the message is valid; the headers are part of it, and so are their texts,
        // which stay where they are while the record lives. A name ends with NUL, a value is
        // null or has the length beside it.
        unsafe {
            match rd::rd_kafka_message_headers(self.message.0.as_ptr(), &mut headers) {
                rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => {}
                rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__NOENT => return Ok(()),
                unreadable => return Err(CallError::of(unreadable.into())),
            }
            let count = rd::rd_kafka_header_cnt(headers);
            into.reserve(count);
            for index in 0..count {
                let (mut key, mut value, mut length) = (ptr::null(), ptr::null(), 0);
                rd::rd_kafka_header_get_all(headers, index, &mut key, &mut value, &mut length);
                if key.is_null() {
                    return Err(CallError::of(RDKafkaErrorCode::BadMessage));
                }
                let key = CStr::from_ptr(key).to_bytes();
                into.push(Header { key, value: bytes_at(value, length) });
            }
        }
        Ok(())
    }
}
