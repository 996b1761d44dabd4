//! What each side hashes to show that it knows a secret (NVM Express Base 2.0 sections 8.13.5.4 and 8.13.5.5; TP 8006).
//!
//! Host: HMAC(K, C1 || S1 || T_ID || SC_C || "HostHost" || NQN of the host || 00h || NQN of the subsystem), controller: HMAC(K, C2 || S2 ||
//! T_ID || SC_C || "Controller" || NQN of the subsystem || 00h || NQN of the host). With a Diffie-Hellman exchange the challenge is replaced by
//! HMAC(H(shared secret), challenge).

use super::hash::{Hash, SecretBytes};
use super::message::NO_SECURE_CHANNEL;

/// What both responses of a transaction are bound to.
pub struct Binding<'a> {
    /// The hash function agreed upon.
    pub hash: Hash,
    /// T_ID.
    pub transaction: u16,
    /// The host.
    pub host_nqn: &'a str,
    /// The subsystem.
    pub subsystem_nqn: &'a str,
    /// H(shared secret), unless the group is null.
    pub session_key: Option<&'a SecretBytes>,
}

impl Binding<'_> {
    /// R1: what the host answers to a challenge.
    pub fn host_response(&self, key: &SecretBytes, sequence: u32, challenge: &[u8]) -> SecretBytes {
        self.response(key, sequence, challenge, ["HostHost", self.host_nqn, self.subsystem_nqn])
    }

    /// R2: what the controller answers to a challenge.
    pub fn controller_response(&self, key: &SecretBytes, sequence: u32, challenge: &[u8]) -> SecretBytes {
        self.response(key, sequence, challenge, ["Controller", self.subsystem_nqn, self.host_nqn])
    }

    fn response(
        &self,
        key: &SecretBytes,
        sequence: u32,
        challenge: &[u8],
        [role, own_nqn, other_nqn]: [&str; 3],
    ) -> SecretBytes {
        let augmented = self.session_key.map(|session| self.hash.hmac(session.as_bytes(), &[challenge]));
        let challenge = augmented.as_ref().map_or(challenge, SecretBytes::as_bytes);
        let message = [
            challenge,
            &sequence.to_le_bytes(),
            &self.transaction.to_le_bytes(),
            &[NO_SECURE_CHANNEL],
            role.as_bytes(),
            own_nqn.as_bytes(),
            &[0],
            other_nqn.as_bytes(),
        ];
        self.hash.hmac(key.as_bytes(), &message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The values come from a script that knows the formulas above, and Python's `hmac` and `hashlib`, alone.
    #[test]
    fn responses_are_those_of_another_implementation() {
        let shared: Vec<u8> = (0..256_u32).map(|i| (i % 251) as u8).collect();
        let key = SecretBytes::filled(32, |out| out.iter_mut().enumerate().for_each(|(i, byte)| *byte = i as u8));
        for (hash, with_session, of_host, of_controller) in [
            (
                Hash::Sha256,
                false,
                "9264335de74db6e2de5f8dab4a3479a280d5befcf5bb45e584b9a24f6b6302fb",
                "9df7fdefc7e7bb2d0fbbade5d6767d7f51f8c9db5bfa14bb7fef97369dd22c9b",
            ),
            (
                Hash::Sha256,
                true,
                "e6d297728efeb1376aba6f4779a0eaa0f09358e1ab188c0066f77c05ab29f76a",
                "8653d9156fb1ab57e1ae426df505e832ebefef4b8f92d64593356ecc17e012cb",
            ),
            (
                Hash::Sha384,
                false,
                "a3df5bbe1f00d5ee047cf56dcca57f9c3005895e256ea4aabdfee2fbe3289e35c5f91bcfdce88addbfbe9146414b5a21",
                "98495b9ec7b63b9a03686cdb5f877904f973fb578b7ffa76150eae0925c896339efe331507cb5151c7a536753a0cf725",
            ),
            (
                Hash::Sha384,
                true,
                "e9422fcf6228e5b9e8a027c5d43d7de020fa0af22e1c3e07cfb40e82833cf7742845f58925e9808590e7bb8e2fb695cb",
                "5734860057b0676771bb5afdd664c829c943119ed91df7728e32b21fa9811d3d1f38be0c59a2e5e5b1d4b9c33f0803a7",
            ),
            (
                Hash::Sha512,
                false,
                "bcd63854857d489abfe451d119364d5b6bc4827be466423afd0dec386a42acdbbc1084e8047c2e4581d1b6ebd622ae8fb03b232f78b48da9f8e382875c61b6c3",
                "75735c1bb64c3a2ca6977abdcfbc91f70de39b60d06d0212d688b35ec3d261fc8f85f1855eb20baefe9962824189da59840ad45ba2f90ebcb072ba53a3e5abdd",
            ),
            (
                Hash::Sha512,
                true,
                "c6ed61781183245a7db60ae8de8f334b8c4345904cf23b5886d72219c14bda9d92160437b2fcd7d75382130c356242e45b1c0174a0b0162afd864c593f55692e",
                "9f5a5ba61621faffafc09c364b99a80f2d01b38f2d7a3d66194c16e45328eb728261877d87466242b6367220317a3c4c2d5f5da87231d4892a7efc17c0220f87",
            ),
        ] {
            let session_key = with_session.then(|| hash.digest(&shared));
            let challenge: Vec<u8> = (100..100 + hash.bytes() as u8).collect();
            let binding = Binding {
                hash,
                transaction: 0x0506,
                host_nqn: "nqn.2014-08.org.nvmexpress:uuid:11111111-2222-3333-4444-555555555555",
                subsystem_nqn: "nqn.2024-01.com.example:account-7",
                session_key: session_key.as_ref(),
            };
            assert_eq!(hex(binding.host_response(&key, 0x0102_0304, &challenge).as_bytes()), of_host);
            assert_eq!(hex(binding.controller_response(&key, 0x0102_0304, &challenge).as_bytes()), of_controller);
        }
    }
}
