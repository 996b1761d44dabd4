//! What the cloud needs of the rest of the configuration.

use crate::cloud::id::Noun;
use crate::export::stream::LONGEST_PATH;
use crate::export::vhost_user::VhostUserConfig;

use super::{Config, ConfigError};

/// Checks the section, and that there is what it hands out.
pub(super) fn check_cloud(config: &Config) -> Result<(), ConfigError> {
    let Some(cloud) = &config.cloud else { return Ok(()) };
    cloud.check(config.pools.iter().map(|pool| pool.name.as_str())).map_err(ConfigError::Wrong)?;
    if config.nvme_tcp.is_none() && config.vhost_user.is_none() {
        let what = "cloud: instances reach their disks over NVMe/TCP or vhost-user; add [nvme_tcp] with an address to listen on, or [vhost_user] for \
                    virtual machines of this host";
        return Err(ConfigError::Wrong(what.to_owned()));
    }
    config.vhost_user.as_ref().map_or(Ok(()), check_room)
}

/// Refuses a directory so long that no instance could get a socket in it.
fn check_room(vhost_user: &VhostUserConfig) -> Result<(), ConfigError> {
    let any = |noun: Noun| "x".repeat(noun.id_bytes());
    let len = vhost_user.socket_for(&any(Noun::Instance), &any(Noun::Disk)).as_os_str().len();
    if len <= LONGEST_PATH {
        return Ok(());
    }
    let directory = vhost_user.directory.as_os_str().len();
    Err(ConfigError::Wrong(format!(
        "vhost_user: directory {} has {directory} bytes, and may have {} with [cloud]: sockets of instances would have longer paths than sockets can have; \
         choose a shorter one, such as \"/run/strongroom/vhost\"",
        vhost_user.directory.display(),
        (LONGEST_PATH + directory).saturating_sub(len)
    )))
}

#[cfg(test)]
mod tests {
    use super::super::tests::load;

    const POOL: &str =
        "[[device]]\nname='d'\nkind='memory'\nsize='64 MiB'\n[[pool]]\nname='p'\ndevice='d'\ncreate=true\n";
    const NVME: &str = "[nvme_tcp]\nlisten=['127.0.0.1:0']\n";

    #[test]
    fn a_cloud_needs_a_zone_in_a_pool_and_an_export() {
        let zone = |pool: &str| format!("[cloud]\nstate_dir='s'\n[[cloud.zone]]\nname='z'\npool='{pool}'\n");
        let sockets = |bytes: usize| format!("[vhost_user]\ndirectory='/{}'\n", "d".repeat(bytes - 1));
        // 107 bytes (unix(7)) without "/i-", "/d-", ".sock" and two identifiers' 20 letters.
        let longest = 107 - (3 + 20 + 3 + 20 + 5);
        for export in [NVME, &sockets(longest)] {
            load(&format!("{POOL}{export}{}", zone("p"))).expect("taken");
        }
        for (text, wanted) in [
            (format!("{POOL}{}", zone("p")), "over NVMe/TCP or vhost-user; add [nvme_tcp]"),
            (format!("{POOL}{}{}", sockets(longest + 1), zone("p")), "has 57 bytes, and may have 56 with [cloud]"),
            (format!("{POOL}{NVME}{}", zone("q")), "zone z: there is no pool q"),
            (format!("{POOL}{NVME}[cloud]\nstate_dir='s'\nzone=[]\n"), "it has no zone"),
            (format!("{POOL}{NVME}{}colour='red'\n", zone("p")), "colour"),
        ] {
            let error = load(&text).expect_err("refused");
            assert!(error.contains(wanted), "{error}");
        }
    }
}
