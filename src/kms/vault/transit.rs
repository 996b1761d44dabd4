//! Master keys and disk keys by the Transit engine.

use base64ct::{Base64, Encoding};
use serde::Deserialize;
use ureq::http::Method;

use crate::crypto::scrub::scrub;
use crate::kms::{
    Answer, Change, Cmk, CmkId, CmkState, CmkVersion, Creator, DataContext, DiskKey, KeyContext, KeyProvider, KmsError,
    MOST_BLOB, Owner, Plaintext, ProviderKind, SERVICE_KEY_ALIAS, ServiceKeys, WrappedError, WrappedKey,
};
use crate::memory::Secret;

use super::answer::{Decrypted, Encrypted, Envelope, Health, KeyInfo, Names, version_of};
use super::config::is_segment;
use super::http::{Ask, Complaint, Deadline, Http, Reply};
use super::session::Sessions;
use super::text::{Short, Text, key_of, short};

const HEALTH: &str = "sys/health?standbyok=true&perfstandbyok=true";

/// What a wrapped key has room for.
const MOST_NAME: usize = 64;

/// A Transit engine.
pub(super) struct Vault {
    pub(super) http: Http,
    pub(super) sessions: Sessions,
    pub(super) mount: String,
    pub(super) keys: ServiceKeys,
    pub(super) region: String,
}

/// What is asked of the engine.
pub(super) struct Call<'a> {
    method: Method,
    /// Behind the mount.
    path: String,
    body: Option<&'a [u8]>,
    /// What a policy has to grant for it.
    capability: &'static str,
}

impl<'a> Call<'a> {
    fn get(path: String) -> Self {
        Self { method: Method::GET, path, body: None, capability: "read" }
    }

    pub(super) fn post<const N: usize>(path: String, body: &'a Text<N>) -> Self {
        Self { method: Method::POST, path, body: Some(body.as_bytes()), capability: "update" }
    }
}

impl Vault {
    /// Sends it with a token, and once more with a new one if that is refused.
    fn send(&self, call: &Call<'_>, deadline: Deadline) -> Result<Reply, Complaint> {
        let path = format!("{}/{}", self.mount, call.path);
        let ask = Ask { method: call.method.clone(), path: &path, body: call.body, in_namespace: true };
        let send = |token: &_| self.http.send(&ask, Some(token), deadline);
        let token = self.sessions.token(&self.http, deadline).map_err(Complaint::Error)?;
        let mut reply = send(&token).map_err(Complaint::Error)?;
        if reply.status.as_u16() == 403 {
            let token = self.sessions.replace(&self.http, &token, deadline).map_err(Complaint::Error)?;
            reply = send(&token).map_err(Complaint::Error)?;
        }
        self.http.check(reply, &path, call.capability)
    }

    /// Something that is done with a key.
    pub(super) fn with_key(&self, call: &Call<'_>, key: &CmkId, deadline: Deadline) -> Result<Reply, KmsError> {
        self.send(call, deadline).map_err(|complaint| self.about(complaint, key))
    }

    /// What the engine has against it, in its words of 2026 (OpenBao 2.7, Vault 1.20).
    fn about(&self, complaint: Complaint, key: &CmkId) -> KmsError {
        let disabled = |what| KmsError::State { key: key.0.clone(), state: CmkState::Disabled, what };
        let said = match complaint {
            Complaint::Error(e) => return e,
            Complaint::Missing => return self.not_found(key),
            Complaint::Objection(said) => said,
        };
        match said.as_str() {
            said if said.contains("key not found") => self.not_found(key),
            said if said.contains("soft-deleted") => {
                disabled("it is soft-deleted in Vault; restore it there (transit/keys/NAME/soft-delete-restore)")
            }
            said if said.contains("too old") => {
                disabled("Vault's min_decryption_version forbids this version; lower it there to open what it wrapped")
            }
            said if said.contains("message authentication failed") || said.contains("invalid ciphertext") => {
                KmsError::NotAuthentic { kms: self.name(), what: said.to_owned() }
            }
            said => self.http.refused(format!("key {key}: {said}")),
        }
    }

    pub(super) fn not_found(&self, key: &CmkId) -> KmsError {
        KmsError::NotFound { kms: self.name(), key: key.0.clone() }
    }

    /// Who had it made, and whose key it is.
    pub(super) fn owner<'a>(&self, id: &'a CmkId) -> Result<(Creator, &'a str), KmsError> {
        let owner = self.keys.owner_of(&self.region, &id.0).filter(|_| is_segment(&id.0));
        owner.ok_or_else(|| self.not_found(id))
    }

    /// Whoever has moved a pool here brings the keys of other regions, but no other paths.
    fn known(&self, id: &CmkId) -> Result<(), KmsError> {
        if is_segment(&id.0) { Ok(()) } else { Err(self.not_found(id)) }
    }

    fn read_key(&self, id: &CmkId, deadline: Deadline) -> Result<Answer<Cmk>, KmsError> {
        let (creator, account) = self.owner(id)?;
        let path = format!("keys/{id}");
        let reply = self.with_key(&Call::get(path.clone()), id, deadline)?;
        let Envelope { request_id, data } = self.http.parse::<Envelope<KeyInfo>>(&reply, &path)?;
        if let Some(flaw) = data.flaw() {
            return Err(self.http.refused(format!("key {id} is not fit for use: {flaw}")));
        }
        let versions = data.versions().ok_or_else(|| self.http.nonsense(format!("key {id} has no versions")))?;
        let versions: Vec<_> =
            versions.into_iter().map(|(number, created_at)| CmkVersion { number, created_at }).collect();
        let cmk = Cmk {
            id: id.clone(),
            alias: (creator == Creator::Service).then(|| SERVICE_KEY_ALIAS.to_owned()),
            account: account.to_owned(),
            creator,
            state: if data.soft_deleted { CmkState::Disabled } else { CmkState::Enabled },
            created_at: versions.first().and_then(|first| first.created_at),
            versions,
            deletion_at: None,
        };
        Ok(Answer::new(cmk, request_id))
    }

    fn make_key(&self, id: &CmkId, deadline: Deadline) -> Result<(), KmsError> {
        // It can neither be exported nor deleted unless that is asked for.
        let body = short(|text| text.push(br#"{"type":"aes256-gcm96","derived":true}"#))?;
        let call = Call { capability: "create and update", ..Call::post(format!("keys/{id}"), &body) };
        self.with_key(&call, id, deadline).map(drop)
    }

    /// What `transit/encrypt` and `transit/rewrap` answer.
    fn wrapped(
        &self,
        reply: &Reply,
        path: &str,
        cmk: &CmkId,
        context: &KeyContext,
    ) -> Result<Answer<WrappedKey>, KmsError> {
        let Envelope { request_id, data } = self.http.parse::<Envelope<Encrypted>>(reply, path)?;
        let version = version_of(&data.ciphertext).filter(|_| data.ciphertext.len() <= MOST_BLOB);
        let Some(cmk_version) = version else {
            return Err(self.http.nonsense(format!("its answer for {path} is no wrapped key")));
        };
        let wrapped = WrappedKey {
            provider: ProviderKind::Vault,
            cmk: cmk.clone(),
            cmk_version,
            context: context.clone(),
            blob: data.ciphertext.into_bytes(),
        };
        Ok(Answer::new(wrapped, request_id))
    }

    /// A request with a wrapped key and its context.
    fn holding(&self, wrapped: &WrappedKey) -> Result<Secret<Short>, KmsError> {
        if wrapped.provider != ProviderKind::Vault {
            let what = format!("open what {} has wrapped", wrapped.provider);
            return Err(KmsError::Unsupported { kms: self.name(), what });
        }
        self.known(&wrapped.cmk)?;
        let text = std::str::from_utf8(&wrapped.blob).ok().filter(|text| version_of(text).is_some());
        let text = text.ok_or(WrappedError::Damaged("it is not what Vault makes"))?;
        short(|body| {
            body.push(b"{\"ciphertext\":\"")?.push(text.as_bytes())?;
            push_context(body, &wrapped.context)
        })
    }

    #[inline(never)]
    fn wrap_left(
        &self,
        cmk: &CmkId,
        key: &Secret<DiskKey>,
        context: &KeyContext,
    ) -> Result<Answer<WrappedKey>, KmsError> {
        self.known(cmk)?;
        let path = format!("encrypt/{cmk}");
        let body = short(|body| {
            body.push(b"{\"plaintext\":\"")?.push_base64(&key.0)?;
            push_context(body, context)
        })?;
        let reply = self.with_key(&Call::post(path.clone(), &body), cmk, self.http.deadline())?;
        self.wrapped(&reply, &path, cmk, context)
    }

    #[inline(never)]
    fn unwrap_left(&self, wrapped: &WrappedKey) -> Result<Answer<Secret<DiskKey>>, KmsError> {
        let path = format!("decrypt/{}", wrapped.cmk);
        let body = self.holding(wrapped)?;
        let reply = self.with_key(&Call::post(path.clone(), &body), &wrapped.cmk, self.http.deadline())?;
        let answer: Unwrapped<'_> = self.http.parse(&reply, &path)?;
        let key =
            key_of(answer.data.plaintext).ok_or_else(|| self.http.nonsense("what it unwrapped is no disk key"))??;
        Ok(Answer::new(key, answer.request_id))
    }
}

fn random_number() -> Result<u64, KmsError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(KmsError::Random)?;
    Ok(u64::from_le_bytes(bytes))
}

/// As an [`Envelope`], of something that is not copied.
#[derive(Deserialize)]
pub(super) struct Unwrapped<'a> {
    pub(super) request_id: Option<String>,
    #[serde(borrow)]
    pub(super) data: Decrypted<'a>,
}

/// Ends a request by the context that the key is bound to.
fn push_context<'a>(body: &'a mut Short, context: &KeyContext) -> Result<&'a mut Short, super::text::TooLong> {
    let context = Base64::encode_string(&context.encode());
    body.push(b"\",\"context\":\"")?.push(context.as_bytes())?.push(b"\"}")
}

impl KeyProvider for Vault {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Vault
    }

    fn name(&self) -> String {
        self.http.name()
    }

    fn health(&self) -> Result<String, KmsError> {
        let deadline = self.http.deadline();
        let ask = Ask { method: Method::GET, path: HEALTH, body: None, in_namespace: false };
        let reply = self.http.send(&ask, None, deadline)?;
        let health: Health = match reply.status.as_u16() {
            200 => self.http.parse(&reply, "sys/health")?,
            501 => return Err(self.http.unavailable("it is not initialized")),
            503 => return Err(self.http.unavailable("it is sealed")),
            _ => return Err(self.http.unavailable(format!("it is not healthy ({})", reply.status))),
        };
        if !health.initialized || health.sealed {
            return Err(self.http.unavailable("it is sealed, or not initialized"));
        }
        // Nobody may have used the token for a long time: it is kept alive here.
        self.sessions.token(&self.http, deadline)?;
        Ok(format!("version {}, unsealed", health.version))
    }

    fn service_key(&self, owner: &Owner) -> Result<Answer<Cmk>, KmsError> {
        let id = CmkId(self.keys.name_for(owner));
        let deadline = self.http.deadline();
        match self.read_key(&id, deadline) {
            Err(KmsError::NotFound { .. }) if is_segment(&id.0) && owner.region == self.region => {
                self.make_key(&id, deadline)?;
                self.read_key(&id, deadline)
            }
            found => found,
        }
    }

    fn create_key(&self, owner: &Owner) -> Result<Answer<Cmk>, KmsError> {
        let id = CmkId(self.keys.user_name_for(owner, random_number()?));
        if id.0.len() > MOST_NAME || owner.region != self.region {
            let what =
                format!("vault: a key of {owner} would be called {id}: longer than {MOST_NAME} bytes, or elsewhere");
            return Err(KmsError::Config(what));
        }
        let deadline = self.http.deadline();
        match self.read_key(&id, deadline) {
            Err(KmsError::NotFound { .. }) if is_segment(&id.0) => {
                self.make_key(&id, deadline)?;
                self.read_key(&id, deadline)
            }
            Ok(_) => Err(self.http.unavailable(format!("there is a key {id} already"))),
            failed => failed,
        }
    }

    fn keys(&self) -> Result<Answer<Vec<Cmk>>, KmsError> {
        let deadline = self.http.deadline();
        let call = Call { capability: "list", ..Call::get("keys?list=true".to_owned()) };
        let reply = match self.send(&call, deadline) {
            Ok(reply) => reply,
            // An engine without any key.
            Err(Complaint::Missing) => return Ok(Answer::new(Vec::new(), None)),
            Err(complaint) => return Err(self.about(complaint, &CmkId("list".to_owned()))),
        };
        let Envelope { request_id, data } = self.http.parse::<Envelope<Names>>(&reply, "keys")?;
        let ours = data.keys.into_iter().map(CmkId).filter(|id| self.owner(id).is_ok());
        let keys = ours.map(|id| self.read_key(&id, self.http.deadline()).map(|answer| answer.value));
        Ok(Answer::new(keys.collect::<Result<_, _>>()?, request_id))
    }

    fn key(&self, id: &CmkId) -> Result<Answer<Cmk>, KmsError> {
        self.read_key(id, self.http.deadline())
    }

    fn wrap(&self, cmk: &CmkId, key: &Secret<DiskKey>, context: &KeyContext) -> Result<Answer<WrappedKey>, KmsError> {
        let wrapped = self.wrap_left(cmk, key, context);
        scrub();
        wrapped
    }

    fn unwrap(&self, wrapped: &WrappedKey) -> Result<Answer<Secret<DiskKey>>, KmsError> {
        let key = self.unwrap_left(wrapped);
        scrub();
        key
    }

    fn rewrap(&self, wrapped: &WrappedKey) -> Result<Answer<WrappedKey>, KmsError> {
        let path = format!("rewrap/{}", wrapped.cmk);
        let body = self.holding(wrapped)?;
        let reply = self.with_key(&Call::post(path.clone(), &body), &wrapped.cmk, self.http.deadline())?;
        self.wrapped(&reply, &path, &wrapped.cmk, &wrapped.context)
    }

    fn seal(&self, cmk: &CmkId, plain: &[u8], context: &DataContext) -> Result<Answer<(u32, Vec<u8>)>, KmsError> {
        let sealed = self.seal_left(cmk, plain, context);
        scrub();
        sealed
    }

    fn open(
        &self,
        cmk: &CmkId,
        version: u32,
        sealed: &[u8],
        context: &DataContext,
    ) -> Result<Answer<Secret<Plaintext>>, KmsError> {
        let plain = self.open_left(cmk, version, sealed, context);
        scrub();
        plain
    }

    fn rotate(&self, id: &CmkId) -> Result<Answer<Cmk>, KmsError> {
        #[derive(Deserialize)]
        struct Numbered {
            request_id: Option<String>,
        }
        self.owner(id)?;
        let deadline = self.http.deadline();
        let body = short(|text| text.push(b"{}"))?;
        let path = format!("keys/{id}/rotate");
        let reply = self.with_key(&Call::post(path, &body), id, deadline)?;
        // Older Vaults answer a rotation by nothing.
        let numbered = serde_json::from_slice(reply.body.as_bytes()).ok();
        let request_id = numbered.and_then(|numbered: Numbered| numbered.request_id);
        let cmk = self.read_key(id, deadline)?;
        Ok(Answer { request_id: request_id.or(cmk.request_id), value: cmk.value })
    }

    fn change(&self, id: &CmkId, change: Change) -> Result<Answer<Cmk>, KmsError> {
        let path = format!("{}/keys/{id}", self.mount);
        let how = match change {
            Change::Disable => {
                format!("there: bao delete {path}/soft-delete (OpenBao), or take decrypt from its policy")
            }
            Change::Enable => {
                format!("there: bao write -f {path}/soft-delete-restore (OpenBao), or grant it decrypt again")
            }
            Change::ScheduleDeletion { .. } | Change::CancelDeletion => {
                format!("there: deletion_allowed in {path}/config, and delete it once no disk needs it")
            }
        };
        Err(KmsError::Unsupported {
            kms: self.name(),
            what: format!("have the state of {id} changed by us; do it {how}"),
        })
    }
}
