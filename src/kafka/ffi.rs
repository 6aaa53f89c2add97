//! librdkafka's C interface: the admin calls that rdkafka's safe interface lacks, and in
//! [`queue`] what a consumer has fetched. The only place with unsafe code.
//!
//! Pointers that librdkafka hands over to us are [`Owned`]; all others are only followed
//! while the event or message that they belong to lives. Error codes are read as numbers:
//! the bindings return them as a Rust enum, which a code that a newer broker has invented
//! would make undefined behaviour.

#![allow(
    unsafe_code,
    reason = "rdkafka 0.39 has no safe ListOffsets, DescribeTopics, offset of an end of \
              partition, nor headers whose keys are not UTF-8"
)]

mod process;
mod queue;

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::{self, NonNull};
use std::slice;
use std::time::Duration;

use rdkafka::bindings as rd;
use rdkafka::client::Client;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::RDKafkaErrorCode;

use super::call::{Answer, CallError, FoundPartition, FoundTopic, Led, Question, millis, name_of};
use super::context::Context;
pub use process::prepare_process;
pub(super) use queue::{AssignedConsumer, PartitionQueue, Polled, Record};

/// A consumer whose log lines and errors go to a [`Context`].
pub(super) type Consumer = BaseConsumer<Context>;

/// How much longer than its own timeout a call is waited for: librdkafka ends it itself and
/// knows why, so that this is the net below.
const NET: Duration = Duration::from_secs(2);

unsafe extern "C" {
    #[link_name = "rd_kafka_event_error"]
    fn event_error_number(event: *mut rd::rd_kafka_event_t) -> c_int;
    #[link_name = "rd_kafka_error_code"]
    fn error_number(error: *const rd::rd_kafka_error_t) -> c_int;
    #[link_name = "rd_kafka_ConfigResource_error"]
    fn resource_error_number(resource: *const rd::rd_kafka_ConfigResource_t) -> c_int;
}

/// Sends an admin request and waits for its result, an event of its own type.
fn admin_call(
    client: &Client<Context>,
    operation: rd::rd_kafka_admin_op_t,
    isolation: Option<rd::rd_kafka_IsolationLevel_t>,
    timeout: Duration,
    send: impl FnOnce(*mut rd::rd_kafka_t, *mut rd::rd_kafka_AdminOptions_t, *mut rd::rd_kafka_queue_t),
) -> Result<OwnedEvent, CallError> {
    let handle = client.native_ptr();
    // SAFETY: the handle is valid while `client` is borrowed. Options and queue are made
    // here, ours, and outlive the request, which copies what it needs of the options.
    let event = unsafe {
        let options = rd::rd_kafka_AdminOptions_new(handle, operation);
        let options = Owned::made(options, rd::rd_kafka_AdminOptions_destroy);
        let ms = millis(timeout);
        // It fails only for more than an hour.
        rd::rd_kafka_AdminOptions_set_request_timeout(options.get(), ms, ptr::null_mut(), 0);
        if let Some(isolation) = isolation {
            let error = rd::rd_kafka_AdminOptions_set_isolation_level(options.get(), isolation);
            if Owned::new(error, rd::rd_kafka_error_destroy).is_some() {
                return Err(CallError::of(RDKafkaErrorCode::UnsupportedFeature));
            }
        }
        let queue = Owned::made(rd::rd_kafka_queue_new(handle), rd::rd_kafka_queue_destroy);
        send(handle, options.get(), queue.get());
        next_event(&queue, timeout + NET)
    };
    let event = event.ok_or_else(|| CallError::of(RDKafkaErrorCode::OperationTimedOut))?;
    match event_error(&event) {
        Some(error) => Err(error),
        None => Ok(event),
    }
}

/// Asks one question about many partitions of a topic, in one call.
///
/// They are such that the client knows their leaders. Where it does not know all of them,
/// librdkafka (2.12.1) looks for them on the calling thread, in
/// `rd_kafka_topic_partition_list_query_leaders_async`, and any metadata that arrives meanwhile
/// makes its own thread go on with the same request: what one of the two has freed the other
/// still uses, and the process ends by a signal.
pub(super) fn list_offsets(
    client: &Client<Context>,
    led: Led<'_>,
    question: Question,
    timeout: Duration,
) -> Result<Vec<Answer>, CallError> {
    use rd::rd_kafka_IsolationLevel_t as Isolation;
    let isolation = if question.heeds_transactions() {
        Isolation::RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED
    } else {
        Isolation::RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED
    };
    let list = question.list(led)?;
    if question == Question::Newest {
        let newest = rd::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_MAX_TIMESTAMP as i64;
        // SAFETY: the list is ours alone, and has as many elements as there are partitions.
        let count = led.partitions().len();
        let elements = unsafe { slice::from_raw_parts_mut((*list.ptr()).elems, count) };
        elements.iter_mut().for_each(|element| element.offset = newest);
    }
    let operation = rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS;
    let event =
        admin_call(client, operation, Some(isolation), timeout, |handle, options, queue| {
            // SAFETY: all pointers are valid for the call, which copies the list.
            unsafe { rd::rd_kafka_ListOffsets(handle, list.ptr(), options, queue) }
        })?;
    // SAFETY: infos and what they point to belong to the event, which lives to the end of
    // the function. The error is read as the number that it is in C.
    unsafe {
        let result = rd::rd_kafka_event_ListOffsets_result(event.get());
        let infos = array_of(result, rd::rd_kafka_ListOffsets_result_infos);
        let answers = infos.iter().map(|&info| {
            let answer = rd::rd_kafka_ListOffsetsResultInfo_topic_partition(info);
            Answer {
                partition: (*answer).partition,
                offset: (*answer).offset,
                timestamp: rd::rd_kafka_ListOffsetsResultInfo_timestamp(info),
                error: CallError::of_number((&raw const (*answer).err).cast::<c_int>().read()),
            }
        });
        Ok(answers.collect())
    }
}

/// Asks what a topic is.
pub(super) fn describe_topic(
    client: &Client<Context>,
    topic: &str,
    timeout: Duration,
) -> Result<FoundTopic, CallError> {
    let name = name_of(topic)?;
    // SAFETY: the array of one name is copied by the call; the collection is ours.
    let topics = unsafe {
        let topics = rd::rd_kafka_TopicCollection_of_topic_names([name.as_ptr()].as_mut_ptr(), 1);
        Owned::made(topics, rd::rd_kafka_TopicCollection_destroy)
    };
    let operation = rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
    let event = admin_call(client, operation, None, timeout, |handle, options, queue| {
        // SAFETY: all pointers are valid for the call, which copies the names.
        unsafe { rd::rd_kafka_DescribeTopics(handle, topics.get(), options, queue) }
    })?;
    // SAFETY: the description and what it points to belong to the event, which lives to the
    // end of the function.
    unsafe {
        let result = rd::rd_kafka_event_DescribeTopics_result(event.get());
        let found = array_of(result, rd::rd_kafka_DescribeTopics_result_topics);
        let Some(&found) = found.first().filter(|found| !found.is_null()) else {
            return Err(CallError::of(RDKafkaErrorCode::UnknownTopicOrPartition));
        };
        let error = rd::rd_kafka_TopicDescription_error(found);
        if let Some(error) = error.as_ref().and_then(|e| CallError::of_number(error_number(e))) {
            return Err(error);
        }
        let id = rd::rd_kafka_TopicDescription_topic_id(found);
        let high = rd::rd_kafka_Uuid_most_significant_bits(id);
        let low = rd::rd_kafka_Uuid_least_significant_bits(id);
        let partitions = array_of(found, rd::rd_kafka_TopicDescription_partitions);
        Ok(FoundTopic {
            topic_id: (u128::from(high as u64) << 64 | u128::from(low as u64)).to_be_bytes(),
            partitions: partitions
                .iter()
                .map(|&partition| FoundPartition {
                    partition: rd::rd_kafka_TopicPartitionInfo_partition(partition),
                    has_leader: !rd::rd_kafka_TopicPartitionInfo_leader(partition).is_null(),
                })
                .collect(),
        })
    }
}

/// Asks for a topic's settings, name and value.
pub(super) fn describe_topic_settings(
    client: &Client<Context>,
    topic: &str,
    timeout: Duration,
) -> Result<Vec<(String, String)>, CallError> {
    let name = name_of(topic)?;
    let kind = rd::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC;
    // SAFETY: the name is copied by the call; the resource is ours.
    let resource = unsafe {
        let resource = rd::rd_kafka_ConfigResource_new(kind, name.as_ptr());
        Owned::made(resource, rd::rd_kafka_ConfigResource_destroy)
    };
    let operation = rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS;
    let event = admin_call(client, operation, None, timeout, |handle, options, queue| {
        let mut resources = [resource.get()];
        // SAFETY: all pointers are valid for the call, which copies the resource.
        unsafe {
            rd::rd_kafka_DescribeConfigs(handle, resources.as_mut_ptr(), 1, options, queue);
        }
    })?;
    // SAFETY: the resource, its entries and their texts belong to the event, which lives to
    // the end of the function.
    unsafe {
        let result = rd::rd_kafka_event_DescribeConfigs_result(event.get());
        let resources = array_of(result, rd::rd_kafka_DescribeConfigs_result_resources);
        let Some(&described) = resources.first() else {
            return Err(CallError::of(RDKafkaErrorCode::UnknownTopicOrPartition));
        };
        if let Some(error) = CallError::of_number(resource_error_number(described)) {
            return Err(error);
        }
        let entries = array_of(described, rd::rd_kafka_ConfigResource_configs);
        let text_of = |&entry: &*const rd::rd_kafka_ConfigEntry_t| {
            (
                text_at(rd::rd_kafka_ConfigEntry_name(entry)),
                text_at(rd::rd_kafka_ConfigEntry_value(entry)),
            )
        };
        Ok(entries.iter().map(text_of).collect())
    }
}

/// A pointer that is ours, and the function that takes it back.
struct Owned<T> {
    pointer: NonNull<T>,
    destroy: unsafe extern "C" fn(*mut T),
}

impl<T> Owned<T> {
    /// `None` for null.
    ///
    /// # Safety
    /// A pointer that is not null must be ours to destroy, once, with `destroy`.
    unsafe fn new(pointer: *mut T, destroy: unsafe extern "C" fn(*mut T)) -> Option<Self> {
        NonNull::new(pointer).map(|pointer| Owned { pointer, destroy })
    }

    /// As [`Owned::new`], for what is never null.
    ///
    /// # Safety
    /// That of [`Owned::new`].
    unsafe fn made(pointer: *mut T, destroy: unsafe extern "C" fn(*mut T)) -> Self {
        // SAFETY: the caller vouches for it.
        unsafe { Self::new(pointer, destroy) }
            .expect("librdkafka ends the process when there is no memory")
    }

    fn get(&self) -> *mut T {
        self.pointer.as_ptr()
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: `new` demands that the pointer is ours and `destroy` its destructor; it is
        // called only here.
        unsafe { (self.destroy)(self.pointer.as_ptr()) }
    }
}

type OwnedEvent = Owned<rd::rd_kafka_event_t>;

fn next_event(queue: &Owned<rd::rd_kafka_queue_t>, timeout: Duration) -> Option<OwnedEvent> {
    // SAFETY: the queue is valid; an event that it gives is ours.
    unsafe {
        let event = rd::rd_kafka_queue_poll(queue.get(), millis(timeout));
        Owned::new(event, rd::rd_kafka_event_destroy)
    }
}

fn event_error(event: &OwnedEvent) -> Option<CallError> {
    // SAFETY: the event is valid and ours; the text lives as long as it and is copied.
    let (number, reason) = unsafe {
        (event_error_number(event.get()), text_at(rd::rd_kafka_event_error_string(event.get())))
    };
    CallError::of_number(number).map(|error| CallError {
        reason: if reason.is_empty() { error.reason } else { reason },
        ..error
    })
}

/// The elements of an array that librdkafka answers with its length; empty for null.
///
/// # Safety
/// `owner` must be null or valid for `elements`, and outlive the slice.
unsafe fn array_of<'a, O, E>(
    owner: *const O,
    elements: unsafe extern "C" fn(*const O, *mut usize) -> *mut *const E,
) -> &'a [*const E] {
    if owner.is_null() {
        return &[];
    }
    let mut count = 0;
    // SAFETY: the caller vouches for `owner`; librdkafka answers an array of `count`.
    unsafe {
        let array = elements(owner, &mut count);
        if array.is_null() || count == 0 { &[] } else { slice::from_raw_parts(array, count) }
    }
}

/// `None` for null, which is not the same as no bytes.
///
/// # Safety
/// `start` must be null or the start of `length` bytes that live for `'a`.
unsafe fn bytes_at<'a>(start: *const c_void, length: usize) -> Option<&'a [u8]> {
    // SAFETY: the caller vouches for it.
    (!start.is_null()).then(|| unsafe { slice::from_raw_parts(start.cast::<u8>(), length) })
}

/// A copy of a C string; empty for null.
///
/// # Safety
/// `text` must be null or a C string.
unsafe fn text_at(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the caller vouches for it.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
