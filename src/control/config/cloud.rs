//! What the cloud needs of the rest of the configuration.

use super::{Config, ConfigError};

/// Checks the section, and that there is what it hands out.
pub(super) fn check_cloud(config: &Config) -> Result<(), ConfigError> {
    let Some(cloud) = &config.cloud else { return Ok(()) };
    cloud.check(config.pools.iter().map(|pool| pool.name.as_str())).map_err(ConfigError::Wrong)?;
    if config.nvme_tcp.is_none() {
        let what = "cloud: instances reach their disks over NVMe/TCP; add [nvme_tcp] with an address to listen on";
        return Err(ConfigError::Wrong(what.to_owned()));
    }
    Ok(())
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
        load(&format!("{POOL}{NVME}{}", zone("p"))).expect("taken");
        for (text, wanted) in [
            (format!("{POOL}{}", zone("p")), "over NVMe/TCP; add [nvme_tcp]"),
            (format!("{POOL}{NVME}{}", zone("q")), "zone z: there is no pool q"),
            (format!("{POOL}{NVME}[cloud]\nstate_dir='s'\nzone=[]\n"), "it has no zone"),
            (format!("{POOL}{NVME}{}colour='red'\n", zone("p")), "colour"),
        ] {
            let error = load(&text).expect_err("refused");
            assert!(error.contains(wanted), "{error}");
        }
    }
}
