//! The codec of our messages: prost's, with a look at large ones before they are taken apart.
//!
//! A few bytes on the wire may become a hundred in memory: an empty entry of a list takes two, and its place in the list
//! fifty times that. In small messages that does no harm. In one as large as a mail may be it would take a gigabyte, so
//! there the fields are counted first. The generated code names it; build.rs says so.

use std::marker::PhantomData;

use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder};
use tonic_prost::{ProstDecoder, ProstEncoder};

use super::status::{self, Refusal};

/// Messages up to this size are taken apart unseen.
const SMALL: usize = 64 * 1024;

/// Fields of a large message; every entry of a list is one. The largest of ours, a page of a thousand users, has a
/// quarter of it.
const MOST_FIELDS: usize = 4096;

/// The codec; `T` is sent, `U` is received.
#[derive(Debug)]
pub(crate) struct Bounded<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Bounded<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for Bounded<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = BoundedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        BoundedDecoder(ProstDecoder::default())
    }
}

/// The half that receives.
#[derive(Debug)]
pub(crate) struct BoundedDecoder<U>(ProstDecoder<U>);

impl<U: Message + Default> Decoder for BoundedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        use prost::bytes::Buf;
        if buffer.remaining() > SMALL && has_more_fields(buffer.chunk(), MOST_FIELDS) {
            return Err(status::of(Refusal::MessageTooLarge));
        }
        self.0.decode(buffer)
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.0.buffer_settings()
    }
}

/// Whether a message has more fields than that; what is no message is for the real decoder to refuse.
pub(super) fn has_more_fields(mut message: &[u8], most: usize) -> bool {
    let mut fields = 0;
    while !message.is_empty() {
        fields += 1;
        if fields > most {
            return true;
        }
        let Some((key, rest)) = varint(message) else { return false };
        let after = match key & 7 {
            0 => varint(rest).map(|(_, rest)| rest),
            1 => rest.get(8..),
            2 => varint(rest).and_then(|(length, rest)| rest.get(usize::try_from(length).ok()?..)),
            // A group: none of ours has one, and the decoder reads on behind it. Not to count there would hide a list.
            3 => return true,
            5 => rest.get(4..),
            _ => None,
        };
        let Some(rest) = after else { return false };
        message = rest;
    }
    false
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(at + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::proto::v1;
    use proptest::prelude::*;

    #[test]
    fn fields_are_counted_and_their_sizes_are_not() {
        let mail = |to: usize, bytes: usize| {
            let file = v1::EmailAttachment { content: vec![0xff; bytes], ..v1::EmailAttachment::default() };
            v1::SendEmailRequest {
                to: vec![v1::EmailAddress::default(); to],
                attachments: vec![file],
                disable_engagement_tracking: true,
                ..v1::SendEmailRequest::default()
            }
            .encode_to_vec()
        };
        assert!(!has_more_fields(&mail(200, 1_000_000), MOST_FIELDS));
        assert!(!has_more_fields(&mail(MOST_FIELDS - 2, 0), MOST_FIELDS));
        assert!(has_more_fields(&mail(MOST_FIELDS - 1, 0), MOST_FIELDS));
    }

    #[test]
    fn nothing_hides_behind_a_group() {
        let list = v1::SendEmailRequest {
            to: vec![v1::EmailAddress::default(); MOST_FIELDS + 1],
            ..v1::SendEmailRequest::default()
        };
        // Field 99 as an empty group: nobody knows it, and the decoder passes it by.
        let message = [&[0x9b, 0x06, 0x9c, 0x06][..], &list.encode_to_vec()].concat();
        assert_eq!(v1::SendEmailRequest::decode(&*message).unwrap().to.len(), MOST_FIELDS + 1);
        assert!(has_more_fields(&message, MOST_FIELDS));
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = has_more_fields(&bytes, MOST_FIELDS);
        }

        #[test]
        fn numbers_are_read_as_prost_writes_them(number in any::<u64>(), after in any::<u8>()) {
            let mut bytes = Vec::new();
            prost::encoding::encode_varint(number, &mut bytes);
            bytes.push(after);
            prop_assert_eq!(varint(&bytes), Some((number, &[after][..])));
        }
    }
}
