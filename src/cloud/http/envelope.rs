//! How answers look: JSON and XML, what was done and what was refused, in the forms of both products.

use serde_json::{Map, Value, json};

use crate::cloud::ApiError;

use super::Product;
use super::xml;

/// In what an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// JSON.
    Json,
    /// XML.
    Xml,
}

impl Format {
    /// The format of this name, in whatever case.
    pub(super) fn of_name(name: &str) -> Option<Self> {
        match name {
            _ if name.eq_ignore_ascii_case("json") => Some(Self::Json),
            _ if name.eq_ignore_ascii_case("xml") => Some(Self::Xml),
            _ => None,
        }
    }

    /// The content type.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json;charset=utf-8",
            Self::Xml => "text/xml;charset=utf-8",
        }
    }
}

/// How the answer to a request has to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// Whose form it has.
    pub(super) product: Product,
    /// In what it is written.
    pub(super) format: Format,
}

impl Shape {
    /// For requests that cannot be read: official clients ask for JSON.
    pub(super) const UNKNOWN: Self = Self { product: Product::Ecs, format: Format::Json };

    /// What was done.
    pub(super) fn success(self, action: &str, request_id: &str, value: Value) -> String {
        let mut answer = match value {
            Value::Object(answer) => answer,
            _ => Map::new(),
        };
        answer.insert("RequestId".to_owned(), request_id.into());
        let root = match self.product {
            Product::Ecs => format!("{action}Response"),
            Product::Kms => "KMS".to_owned(),
        };
        self.write(&root, answer.into())
    }

    /// What was refused.
    pub(super) fn error(self, request_id: &str, host: &str, error: &ApiError) -> String {
        let ApiError { code, status, message } = error;
        match self.product {
            Product::Ecs => self
                .write("Error", json!({ "RequestId": request_id, "HostId": host, "Code": code, "Message": message })),
            Product::Kms => self.write(
                "KMS",
                json!({ "HttpStatus": status, "Code": code, "Message": message, "RequestId": request_id }),
            ),
        }
    }

    fn write(self, root: &str, value: Value) -> String {
        match self.format {
            Format::Json => value.to_string(),
            Format::Xml => xml::document(root, &value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "473469C7-AA6F-4DC5-B3DB-A3DC0DE3C83E";

    fn shape(product: Product, format: Format) -> Shape {
        Shape { product, format }
    }

    #[test]
    fn what_was_done_has_the_form_of_its_product() {
        let disk = || json!({ "DiskId": "d-1" });
        for (product, format, wanted) in [
            (Product::Ecs, Format::Json, format!("{{\"DiskId\":\"d-1\",\"RequestId\":\"{ID}\"}}")),
            (Product::Kms, Format::Json, format!("{{\"DiskId\":\"d-1\",\"RequestId\":\"{ID}\"}}")),
            (
                Product::Ecs,
                Format::Xml,
                format!(
                    "{}<CreateDiskResponse><DiskId>d-1</DiskId><RequestId>{ID}</RequestId></CreateDiskResponse>",
                    xml::DECLARATION
                ),
            ),
            (
                Product::Kms,
                Format::Xml,
                format!("{}<KMS><DiskId>d-1</DiskId><RequestId>{ID}</RequestId></KMS>", xml::DECLARATION),
            ),
        ] {
            assert_eq!(shape(product, format).success("CreateDisk", ID, disk()), wanted);
        }
        let nothing = shape(Product::Ecs, Format::Json).success("DeleteDisk", ID, Value::Null);
        assert_eq!(nothing, format!("{{\"RequestId\":\"{ID}\"}}"));
    }

    #[test]
    fn what_was_refused_has_the_form_of_its_product() {
        let error = ApiError::new("Forbidden.KeyNotFound", 404, "The specified Key is not found.");
        let read = |product| -> Value {
            let text = shape(product, Format::Json).error(ID, "127.0.0.1:80", &error);
            serde_json::from_str(&text).expect("JSON")
        };
        let (code, message) = ("Forbidden.KeyNotFound", "The specified Key is not found.");
        assert_eq!(
            read(Product::Ecs),
            json!({ "RequestId": ID, "HostId": "127.0.0.1:80", "Code": code, "Message": message })
        );
        assert_eq!(read(Product::Kms), json!({ "RequestId": ID, "HttpStatus": 404, "Code": code, "Message": message }));
        for (product, root, own) in
            [(Product::Ecs, "Error", "<HostId>h&amp;</HostId>"), (Product::Kms, "KMS", "<HttpStatus>404</HttpStatus>")]
        {
            let text = shape(product, Format::Xml).error(ID, "h&", &error);
            assert!(text.starts_with(&format!("{}<{root}>", xml::DECLARATION)), "{text}");
            assert!(text.contains(own) && text.ends_with(&format!("</{root}>")), "{text}");
        }
    }
}
