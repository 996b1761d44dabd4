//! The words of KMIP 1.4 that we speak: tags (section 9.1.3.1) and the values of enumerations (section 9.1.3.2).

/// Tags.
pub mod tag {
    use super::super::ttlv::Tag;

    pub const ATTRIBUTE: Tag = Tag(0x42_0008);
    pub const ATTRIBUTE_NAME: Tag = Tag(0x42_000A);
    pub const ATTRIBUTE_VALUE: Tag = Tag(0x42_000B);
    pub const BATCH_COUNT: Tag = Tag(0x42_000D);
    pub const BATCH_ERROR_CONTINUATION_OPTION: Tag = Tag(0x42_000E);
    pub const BATCH_ITEM: Tag = Tag(0x42_000F);
    pub const BLOCK_CIPHER_MODE: Tag = Tag(0x42_0011);
    pub const CRYPTOGRAPHIC_ALGORITHM: Tag = Tag(0x42_0028);
    pub const CRYPTOGRAPHIC_PARAMETERS: Tag = Tag(0x42_002B);
    pub const IV_COUNTER_NONCE: Tag = Tag(0x42_003D);
    pub const MAXIMUM_ITEMS: Tag = Tag(0x42_004F);
    pub const MAXIMUM_RESPONSE_SIZE: Tag = Tag(0x42_0050);
    pub const NAME_TYPE: Tag = Tag(0x42_0054);
    pub const NAME_VALUE: Tag = Tag(0x42_0055);
    pub const OBJECT_TYPE: Tag = Tag(0x42_0057);
    pub const OPERATION: Tag = Tag(0x42_005C);
    pub const PROTOCOL_VERSION: Tag = Tag(0x42_0069);
    pub const PROTOCOL_VERSION_MAJOR: Tag = Tag(0x42_006A);
    pub const PROTOCOL_VERSION_MINOR: Tag = Tag(0x42_006B);
    pub const QUERY_FUNCTION: Tag = Tag(0x42_0074);
    pub const REQUEST_HEADER: Tag = Tag(0x42_0077);
    pub const REQUEST_MESSAGE: Tag = Tag(0x42_0078);
    pub const REQUEST_PAYLOAD: Tag = Tag(0x42_0079);
    pub const RESPONSE_HEADER: Tag = Tag(0x42_007A);
    pub const RESPONSE_MESSAGE: Tag = Tag(0x42_007B);
    pub const RESPONSE_PAYLOAD: Tag = Tag(0x42_007C);
    pub const RESULT_MESSAGE: Tag = Tag(0x42_007D);
    pub const RESULT_REASON: Tag = Tag(0x42_007E);
    pub const RESULT_STATUS: Tag = Tag(0x42_007F);
    pub const TEMPLATE_ATTRIBUTE: Tag = Tag(0x42_0091);
    pub const UNIQUE_BATCH_ITEM_ID: Tag = Tag(0x42_0093);
    pub const UNIQUE_IDENTIFIER: Tag = Tag(0x42_0094);
    pub const VENDOR_IDENTIFICATION: Tag = Tag(0x42_009D);
    pub const DATA: Tag = Tag(0x42_00C2);
    pub const TAG_LENGTH: Tag = Tag(0x42_00CE);
    pub const OFFSET_ITEMS: Tag = Tag(0x42_00D4);
    pub const ADDITIONAL_DATA: Tag = Tag(0x42_00FE);
    pub const AUTHENTICATION_TAG: Tag = Tag(0x42_00FF);
}

/// Operations (section 9.1.3.2.27).
pub mod operation {
    pub const CREATE: u32 = 0x01;
    pub const LOCATE: u32 = 0x08;
    pub const GET_ATTRIBUTES: u32 = 0x0B;
    pub const ACTIVATE: u32 = 0x12;
    pub const QUERY: u32 = 0x18;
    pub const DISCOVER_VERSIONS: u32 = 0x1E;
    pub const ENCRYPT: u32 = 0x1F;
    pub const DECRYPT: u32 = 0x20;
}

/// Names of attributes (section 3).
pub mod attribute {
    pub const CRYPTOGRAPHIC_ALGORITHM: &str = "Cryptographic Algorithm";
    pub const CRYPTOGRAPHIC_LENGTH: &str = "Cryptographic Length";
    pub const CRYPTOGRAPHIC_USAGE_MASK: &str = "Cryptographic Usage Mask";
    pub const INITIAL_DATE: &str = "Initial Date";
    pub const NAME: &str = "Name";
    pub const OBJECT_TYPE: &str = "Object Type";
    pub const STATE: &str = "State";
}

/// Result reasons (section 9.1.3.2.29).
pub mod reason {
    pub const ITEM_NOT_FOUND: u32 = 0x01;
    pub const AUTHENTICATION_NOT_SUCCESSFUL: u32 = 0x03;
    pub const OPERATION_NOT_SUPPORTED: u32 = 0x05;
    pub const INVALID_FIELD: u32 = 0x07;
    pub const FEATURE_NOT_SUPPORTED: u32 = 0x08;
    pub const CRYPTOGRAPHIC_FAILURE: u32 = 0x0A;
    pub const PERMISSION_DENIED: u32 = 0x0C;
    pub const OBJECT_ALREADY_EXISTS: u32 = 0x18;
    pub const GENERAL_FAILURE: u32 = 0x100;
}

/// Result Status (section 9.1.3.2.28).
pub const SUCCESS: u32 = 0;
/// Object Type (section 9.1.3.2.12).
pub const SYMMETRIC_KEY: u32 = 2;
/// Cryptographic Algorithm (section 9.1.3.2.13).
pub const AES: u32 = 3;
/// Block Cipher Mode (section 9.1.3.2.14).
pub const GCM: u32 = 9;
/// Cryptographic Usage Mask: Encrypt and Decrypt (section 9.1.3.3.1).
pub const ENCRYPT_AND_DECRYPT: i32 = 0x04 | 0x08;
/// Name Type (section 9.1.3.2.11).
pub const UNINTERPRETED_TEXT: u32 = 1;
/// Query Function (section 9.1.3.2.24).
pub const QUERY_SERVER_INFORMATION: u32 = 3;
/// Batch Error Continuation Option (section 9.1.3.2.30).
pub const CONTINUE: u32 = 1;
