//! Requests in Kafka's own bytes, for what rdkafka has no words for: headers whose keys are
//! no text, events without a time, ACLs.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::harness::brokers;

/// Produces one event into partition 0, with one header, whose value is "v". −1 is no time.
pub fn produce(topic: &str, timestamp: i64, header_key: &[u8]) {
    let batch = batch(timestamp, &record_with_header(header_key));
    let body = [
        &(-1i16).to_be_bytes(), // no transaction
        &1i16.to_be_bytes()[..],
        &30_000i32.to_be_bytes(),
        &1i32.to_be_bytes(),
        &text(topic),
        &1i32.to_be_bytes(),
        &0i32.to_be_bytes(),
        &(batch.len() as i32).to_be_bytes(),
        &batch,
    ];
    let answer = call(0, 3, &body.concat());
    // Behind the count of topics, the topic, the count of partitions and the partition.
    assert_eq!(number_at(&answer, 4 + text(topic).len() + 8), 0, "produce: {answer:?}");
}

/// Allows the user "reader" to read a topic, and with that to describe it.
pub fn allow_reading(topic: &str) {
    const TOPIC: u8 = 2;
    const LITERAL: u8 = 3;
    const READ: u8 = 3;
    const ALLOW: u8 = 3;
    let body = [
        &1i32.to_be_bytes()[..],
        &[TOPIC],
        &text(topic),
        &[LITERAL],
        &text("User:reader"),
        &text("*"),
        &[READ, ALLOW],
    ];
    let answer = call(30, 1, &body.concat());
    // Behind the throttle time and the count of results.
    assert_eq!(number_at(&answer, 8), 0, "create ACLs: {answer:?}");
}

/// Sends one request to the test broker; what it answers, without length and correlation id.
fn call(api_key: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let id = 7i32.to_be_bytes();
    let header = [&api_key.to_be_bytes()[..], &version.to_be_bytes(), &id, &text("wire")].concat();
    let length = (header.len() + body.len()) as i32;
    let mut broker = TcpStream::connect(brokers()).expect("connected");
    broker.write_all(&[&length.to_be_bytes()[..], &header, body].concat()).expect("sent");
    let mut length = [0; 4];
    broker.read_exact(&mut length).expect("an answer");
    let mut answer = vec![0; i32::from_be_bytes(length) as usize];
    broker.read_exact(&mut answer).expect("all of it");
    assert_eq!(answer[..4], id);
    answer.split_off(4)
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as i16).to_be_bytes(), text.as_bytes()].concat()
}

fn number_at(answer: &[u8], place: usize) -> i16 {
    i16::from_be_bytes([answer[place], answer[place + 1]])
}

/// A batch of one record, of version 2.
fn batch(timestamp: i64, record: &[u8]) -> Vec<u8> {
    let checked = [
        &0i16.to_be_bytes()[..], // attributes
        &0i32.to_be_bytes(),     // the last record's offset, from the batch's
        &timestamp.to_be_bytes(),
        &timestamp.to_be_bytes(),
        &(-1i64).to_be_bytes(), // no producer id, its epoch, and its sequence
        &(-1i16).to_be_bytes(),
        &(-1i32).to_be_bytes(),
        &1i32.to_be_bytes(), // records
        record,
    ]
    .concat();
    let counted = [
        &(-1i32).to_be_bytes()[..], // the leader's epoch
        &[2],
        &crc32c(&checked).to_be_bytes(),
        &checked,
    ]
    .concat();
    [&0i64.to_be_bytes()[..], &(counted.len() as i32).to_be_bytes(), &counted].concat()
}

/// A record with neither key nor value and with one header.
fn record_with_header(header_key: &[u8]) -> Vec<u8> {
    let fields = [
        &[0][..], // attributes
        &varint(0),
        &varint(0),
        &varint(-1),
        &varint(-1),
        &varint(1),
        &varint(header_key.len() as i8),
        header_key,
        &varint(1),
        b"v",
    ]
    .concat();
    [&varint(fields.len() as i8)[..], &fields].concat()
}

/// Small numbers take one byte.
fn varint(number: i8) -> [u8; 1] {
    assert!((-64..64).contains(&number));
    [((number << 1) ^ (number >> 7)) as u8]
}

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ ((crc & 1) * 0x82f6_3b78))
    })
}
