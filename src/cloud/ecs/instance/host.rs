//! The names by which an instance's host connects: new ones, unless the operator has said which, for a host that is there already.

use uuid::Uuid;

use crate::cloud::error::ApiError;
use crate::cloud::service::Call;
use crate::cloud::store::World;
use crate::secrets::SecretRef;

/// Bytes of an NVMe Qualified Name (NVMe Base 2.0, 4.5).
const LONGEST_NQN: usize = 223;

/// The names that were asked for.
#[derive(Default)]
pub struct HostWanted {
    nqn: Option<String>,
    host_id: Option<Uuid>,
    dhchap_secret: Option<SecretRef>,
}

/// The names of a host.
pub struct HostNames {
    /// The NVMe Qualified Name.
    pub nqn: String,
    /// The host identifier.
    pub host_id: Uuid,
    /// Where the secret lies by which it has to authenticate, if it has to.
    pub dhchap_secret: Option<SecretRef>,
}

impl HostWanted {
    /// Reads `HostNqn`, `HostId` and `DhchapSecret` of the operator. Nobody else has such parameters.
    pub fn read(call: &Call<'_>, amount: u32) -> Result<Self, ApiError> {
        if !call.caller.is_operator() {
            return Ok(Self::default());
        }
        let nqn = call.params.text("HostNqn");
        if nqn.is_some_and(|nqn| !nqn.starts_with("nqn.") || nqn.len() > LONGEST_NQN) {
            return Err(ApiError::invalid("HostNqn"));
        }
        let host_id =
            call.params.text("HostId").map(str::parse).transpose().map_err(|_| ApiError::invalid("HostId"))?;
        if amount > 1 && (nqn.is_some() || host_id.is_some()) {
            let what = "HostNqn and HostId are the names of one host: ask for one instance.";
            return Err(ApiError::new("InvalidParameter", 400, what));
        }
        let secret = call.params.text("DhchapSecret").map(|text| SecretRef::try_from(text.to_owned())).transpose();
        let dhchap_secret = secret.map_err(|e| ApiError::new("InvalidParameter", 400, format!("DhchapSecret: {e}")))?;
        Ok(Self { nqn: nqn.map(str::to_owned), host_id, dhchap_secret })
    }

    /// The names of a new instance's host. No other instance has them: it would see the other's disks.
    pub fn names(&self, world: &World) -> Result<HostNames, ApiError> {
        let host_id = self.host_id.unwrap_or_else(Uuid::new_v4);
        let nqn = self.nqn.clone().unwrap_or_else(|| format!("nqn.2014-08.org.nvmexpress:uuid:{host_id}"));
        match world.instances.rows().find(|other| other.nqn == nqn || other.host_id == host_id) {
            Some(other) => {
                let what = format!("Instance {} has this HostNqn or HostId already.", other.id);
                Err(ApiError::new("InvalidParameter", 400, what))
            }
            None => Ok(HostNames { nqn, host_id, dhchap_secret: self.dhchap_secret.clone() }),
        }
    }
}
