//! The handshake: fixed newstyle, from the greeting to the chosen export ("Handshake", "Option types").
//!
//! An option that is wrong is answered with an error, and the next one is read; a client that breaks the framing, floods the server with
//! options, or asks with `NBD_OPT_EXPORT_NAME` for what is not there, is disconnected. TLS is not spoken (the document's NOTLS mode).

use std::rc::Rc;
use std::sync::Arc;

use zerocopy::IntoBytes;

use crate::reactor::SendBatch;

use super::Link;
use super::end::{EndReason, Violation};
use super::exports::{Export, Exports};
use super::option::{InfoRequest, Malformed, MetaContextRequest, whole_string};
use super::receiver::Receiver;
use super::request::{MAX_PAYLOAD, Negotiated};
use super::wire::{self, handshake, info, option, reply};
use crate::export::clients::Guest;

/// No option needs more: a name, and some queries.
const LONGEST_OPTION: u32 = 32 << 10;
/// An ordinary client sends about five.
const MOST_OPTIONS: u32 = 1000;
/// Replies are sent when so many are collected, and at the end of each option.
const REPLIES_AT_ONCE: usize = 64;

const ALLOCATION: &str = "base:allocation";
/// The number of the metadata context `base:allocation`.
pub(super) const ALLOCATION_ID: u32 = 1;

/// What a connection serves from now on.
pub(super) struct Chosen {
    pub(super) export: Arc<Export>,
    /// Lives as long as the session.
    pub(super) _guest: Guest,
    pub(super) negotiated: Negotiated,
}

/// What comes after an option.
enum Next {
    Option,
    Transmission(Arc<Export>, Guest),
}

pub(super) struct Handshake<'a> {
    link: &'a Rc<Link>,
    receiver: &'a mut Receiver,
    exports: &'a Exports,
    batch: Box<SendBatch>,
    queued: usize,
    /// The client asked for fixed newstyle.
    fixed: bool,
    no_zeroes: bool,
    structured: bool,
    /// The number of the export for which `base:allocation` was selected.
    allocation: Option<u64>,
}

impl<'a> Handshake<'a> {
    pub(super) fn new(link: &'a Rc<Link>, receiver: &'a mut Receiver, exports: &'a Exports) -> Self {
        let batch = SendBatch::with_room(REPLIES_AT_ONCE, 256);
        Self {
            link,
            receiver,
            exports,
            batch,
            queued: 0,
            fixed: false,
            no_zeroes: false,
            structured: false,
            allocation: None,
        }
    }

    pub(super) async fn run(mut self) -> Result<Chosen, EndReason> {
        self.greet().await?;
        for _ in 0..MOST_OPTIONS {
            let header: wire::OptionHeader = self.receiver.header().await?;
            if let Next::Transmission(export, guest) = self.option(header).await? {
                self.send().await?;
                let negotiated = self.negotiated(&export);
                return Ok(Chosen { export, _guest: guest, negotiated });
            }
            self.send().await?;
        }
        Err(Violation::TooManyOptions(MOST_OPTIONS).into())
    }

    async fn greet(&mut self) -> Result<(), EndReason> {
        let flags = handshake::FIXED_NEWSTYLE | handshake::NO_ZEROES;
        let greeting =
            wire::Greeting { password: wire::PASSWORD.into(), magic: wire::OPTION_MAGIC.into(), flags: flags.into() };
        self.batch.header(greeting.as_bytes());
        self.send().await?;
        let answer: wire::ClientFlags = self.receiver.header().await?;
        let answer = answer.flags.get();
        if answer & !u32::from(flags) != 0 {
            return Err(Violation::ClientFlags(answer).into());
        }
        self.fixed = answer & u32::from(handshake::FIXED_NEWSTYLE) != 0;
        self.no_zeroes = answer & u32::from(handshake::NO_ZEROES) != 0;
        Ok(())
    }

    fn negotiated(&self, export: &Export) -> Negotiated {
        Negotiated { structured: self.structured, allocation: self.allocation == Some(export.number) }
    }

    async fn option(&mut self, header: wire::OptionHeader) -> Result<Next, EndReason> {
        let (magic, option, length) = (header.magic.get(), header.option.get(), header.length.get());
        if magic != wire::OPTION_MAGIC {
            return Err(Violation::OptionMagic(magic).into());
        }
        if length > LONGEST_OPTION {
            return Err(Violation::OptionLength { option, length }.into());
        }
        if !self.fixed && option != option::EXPORT_NAME {
            return Err(Violation::NotFixed(option).into());
        }
        let data = self.receiver.rest(length as usize).await?.to_vec();
        match option {
            option::EXPORT_NAME => return self.export_name(&data),
            option::GO => return self.go(&data).await,
            option::INFO => self.info(&data).await?,
            option::LIST => self.list(&data).await?,
            option::ABORT => {
                self.reply(option, reply::ACK, &[]).await?;
                self.send().await?;
                return Err(EndReason::Aborted);
            }
            option::STRUCTURED_REPLY if data.is_empty() => {
                self.structured = true;
                self.reply(option, reply::ACK, &[]).await?;
            }
            option::STRUCTURED_REPLY => self.invalid(option, "this option has no data").await?,
            option::LIST_META_CONTEXT | option::SET_META_CONTEXT => self.meta_context(option, &data).await?,
            option::STARTTLS => {
                let why = b"this server does not speak TLS; put it behind a tunnel";
                self.reply(option, reply::ERR_POLICY, &[why]).await?;
            }
            _ => self.reply(option, reply::ERR_UNSUP, &[b"unknown option"]).await?,
        }
        Ok(Next::Option)
    }

    /// `NBD_OPT_EXPORT_NAME` has no error answer.
    fn export_name(&mut self, data: &[u8]) -> Result<Next, EndReason> {
        let unknown = || EndReason::UnknownExport(String::from_utf8_lossy(&data[..data.len().min(256)]).into_owned());
        let export = whole_string(data).ok().and_then(|name| self.exports.find(name)).ok_or_else(unknown)?;
        let guest = export.clients.enter().ok_or_else(|| EndReason::Held(export.name.clone()))?;
        let flags = export.flags(self.negotiated(&export));
        let answer = wire::ExportNameReply { size: export.size().into(), flags: flags.into() };
        self.batch.header(answer.as_bytes());
        if !self.no_zeroes {
            self.batch.header(&[0; wire::EXPORT_NAME_ZEROES]);
        }
        Ok(Next::Transmission(export, guest))
    }

    /// `NBD_OPT_LIST`: name and description of each export.
    async fn list(&mut self, data: &[u8]) -> Result<(), EndReason> {
        if !data.is_empty() {
            return self.invalid(option::LIST, "this option has no data").await;
        }
        for export in self.exports.all() {
            let name_length = (export.name.len() as u32).to_be_bytes();
            let description = export.description.as_deref().unwrap_or_default();
            let parts = [name_length.as_slice(), export.name.as_bytes(), description.as_bytes()];
            self.reply(option::LIST, reply::SERVER, &parts).await?;
        }
        self.reply(option::LIST, reply::ACK, &[]).await
    }

    /// `NBD_OPT_GO`: the client counts before it is told the size.
    async fn go(&mut self, data: &[u8]) -> Result<Next, EndReason> {
        let Some((request, export)) = self.asked_about(option::GO, data).await? else { return Ok(Next::Option) };
        let Some(guest) = export.clients.enter() else {
            self.reply(option::GO, reply::ERR_POLICY, &[b"the disk is just being changed; try again"]).await?;
            return Ok(Next::Option);
        };
        self.describe(option::GO, &request, &export).await?;
        Ok(Next::Transmission(export, guest))
    }

    /// `NBD_OPT_INFO`.
    async fn info(&mut self, data: &[u8]) -> Result<(), EndReason> {
        match self.asked_about(option::INFO, data).await? {
            Some((request, export)) => self.describe(option::INFO, &request, &export).await,
            None => Ok(()),
        }
    }

    /// What the client wants to know, and about which export; none if that was refused.
    async fn asked_about<'d>(
        &mut self,
        option: u32,
        data: &'d [u8],
    ) -> Result<Option<(InfoRequest<'d>, Arc<Export>)>, EndReason> {
        let Ok(request) = InfoRequest::parse(data) else {
            self.invalid(option, "malformed request").await?;
            return Ok(None);
        };
        let Some(export) = self.exports.find(request.name) else {
            self.unknown_export(option).await?;
            return Ok(None);
        };
        Ok(Some((request, export)))
    }

    /// All that a client wants to know about an export.
    async fn describe(&mut self, option: u32, request: &InfoRequest<'_>, export: &Export) -> Result<(), EndReason> {
        self.measures(option, export, self.negotiated(export)).await?;
        if request.wants(info::NAME) {
            let parts = [&info::NAME.to_be_bytes(), export.name.as_bytes()];
            self.reply(option, reply::INFO, &parts).await?;
        }
        if let Some(text) = export.description.as_deref().filter(|_| request.wants(info::DESCRIPTION)) {
            self.reply(option, reply::INFO, &[&info::DESCRIPTION.to_be_bytes(), text.as_bytes()]).await?;
        }
        self.reply(option, reply::ACK, &[]).await
    }

    /// Size, flags and block sizes. The block sizes are sent unasked too: requests that do not keep them are refused.
    async fn measures(&mut self, option: u32, export: &Export, negotiated: Negotiated) -> Result<(), EndReason> {
        let about = wire::InfoExport {
            info: info::EXPORT.into(),
            size: export.size().into(),
            flags: export.flags(negotiated).into(),
        };
        self.reply(option, reply::INFO, &[about.as_bytes()]).await?;
        let sizes = wire::InfoBlockSize {
            info: info::BLOCK_SIZE.into(),
            minimum: export.sector_bytes().into(),
            preferred: export.preferred_block().into(),
            maximum: MAX_PAYLOAD.into(),
        };
        self.reply(option, reply::INFO, &[sizes.as_bytes()]).await
    }

    /// `NBD_OPT_LIST_META_CONTEXT` and `NBD_OPT_SET_META_CONTEXT`. The namespace `base:` is a wildcard in lists only.
    async fn meta_context(&mut self, option: u32, data: &[u8]) -> Result<(), EndReason> {
        let sets = option == option::SET_META_CONTEXT;
        if sets {
            self.allocation = None;
        }
        if !self.structured {
            return self.invalid(option, "structured replies have to be negotiated first").await;
        }
        let request = match MetaContextRequest::parse(data) {
            Ok(request) => request,
            Err(Malformed) => return self.invalid(option, "malformed request").await,
        };
        let Some(export) = self.exports.find(request.name) else { return self.unknown_export(option).await };
        let matches = if sets {
            request.queries.contains(&ALLOCATION)
        } else {
            request.queries.is_empty() || request.queries.iter().any(|q| [ALLOCATION, "base:"].contains(q))
        };
        if matches {
            let id = if sets { ALLOCATION_ID } else { 0 };
            self.reply(option, reply::META_CONTEXT, &[&id.to_be_bytes(), ALLOCATION.as_bytes()]).await?;
        }
        self.allocation = (sets && matches).then_some(export.number).or(self.allocation);
        self.reply(option, reply::ACK, &[]).await
    }

    async fn unknown_export(&mut self, option: u32) -> Result<(), EndReason> {
        self.reply(option, reply::ERR_UNKNOWN, &[b"there is no such export"]).await
    }

    async fn invalid(&mut self, option: u32, why: &str) -> Result<(), EndReason> {
        self.reply(option, reply::ERR_INVALID, &[why.as_bytes()]).await
    }

    async fn reply(&mut self, option: u32, kind: u32, parts: &[&[u8]]) -> Result<(), EndReason> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let header = wire::OptionReply {
            magic: wire::OPTION_REPLY_MAGIC.into(),
            option: option.into(),
            kind: kind.into(),
            length: (length as u32).into(),
        };
        self.batch.header(header.as_bytes());
        parts.iter().for_each(|part| self.batch.header(part));
        self.queued += 1;
        if self.queued >= REPLIES_AT_ONCE { self.send().await } else { Ok(()) }
    }

    async fn send(&mut self) -> Result<(), EndReason> {
        self.queued = 0;
        self.link.socket.send(&mut self.batch).await.map_err(EndReason::Send)
    }
}
