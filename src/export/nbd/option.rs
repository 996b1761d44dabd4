//! The data of options ("Option types"), read with care: lengths in it are the client's word.

use super::wire::LONGEST_STRING;

/// Data that does not have the form that its option needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// `NBD_OPT_INFO` and `NBD_OPT_GO`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InfoRequest<'a> {
    pub(super) name: &'a str,
    /// Information types, two bytes each.
    wanted: &'a [u8],
}

impl<'a> InfoRequest<'a> {
    pub(super) fn parse(data: &'a [u8]) -> Result<Self, Malformed> {
        let mut data = Data(data);
        let name = data.string()?;
        let count = usize::from(data.u16()?);
        let wanted = data.bytes(count * 2)?;
        data.end()?;
        Ok(Self { name, wanted })
    }

    pub(super) fn wants(&self, info: u16) -> bool {
        self.wanted.chunks_exact(2).any(|pair| pair == info.to_be_bytes())
    }
}

/// `NBD_OPT_LIST_META_CONTEXT` and `NBD_OPT_SET_META_CONTEXT`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MetaContextRequest<'a> {
    pub(super) name: &'a str,
    pub(super) queries: Vec<&'a str>,
}

impl<'a> MetaContextRequest<'a> {
    pub(super) fn parse(data: &'a [u8]) -> Result<Self, Malformed> {
        let mut data = Data(data);
        let name = data.string()?;
        let count = data.u32()?;
        let mut queries = Vec::new();
        for _ in 0..count {
            queries.push(data.string()?);
        }
        data.end()?;
        Ok(Self { name, queries })
    }
}

/// A string that is an option's whole data.
pub(super) fn whole_string(data: &[u8]) -> Result<&str, Malformed> {
    let text = std::str::from_utf8(data).map_err(|_| Malformed)?;
    if text.len() > LONGEST_STRING || text.contains('\0') { Err(Malformed) } else { Ok(text) }
}

struct Data<'a>(&'a [u8]);

impl<'a> Data<'a> {
    fn bytes(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (now, later) = self.0.split_at_checked(len).ok_or(Malformed)?;
        self.0 = later;
        Ok(now)
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_be_bytes(self.bytes(2)?.try_into().map_err(|_| Malformed)?))
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.bytes(4)?.try_into().map_err(|_| Malformed)?))
    }

    fn string(&mut self) -> Result<&'a str, Malformed> {
        let len = self.u32()? as usize;
        whole_string(self.bytes(len)?)
    }

    fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_info_request_is_read() {
        let request = InfoRequest::parse(b"\0\0\0\x02ab\0\x02\0\x01\0\x03").expect("well formed");
        assert_eq!(request.name, "ab");
        assert!(request.wants(1) && request.wants(3) && !request.wants(0));
    }

    #[test]
    fn every_truncation_and_every_surplus_is_malformed() {
        let info = b"\0\0\0\x02ab\0\x01\0\x03".as_slice();
        let meta = b"\0\0\0\x01a\0\0\0\x01\0\0\0\x05base:".as_slice();
        assert_eq!(MetaContextRequest::parse(meta).expect("well formed").queries, ["base:"]);
        for len in 0..info.len() {
            assert_eq!(InfoRequest::parse(&info[..len]), Err(Malformed));
        }
        for len in 0..meta.len() {
            assert_eq!(MetaContextRequest::parse(&meta[..len]), Err(Malformed));
        }
        assert!(InfoRequest::parse(&[info, b"x"].concat()).is_err());
        assert!(MetaContextRequest::parse(&[meta, b"x"].concat()).is_err());
        assert!(InfoRequest::parse(b"\xff\xff\xff\xff").is_err());
        assert!(MetaContextRequest::parse(b"\0\0\0\0\xff\xff\xff\xff").is_err());
    }
}
