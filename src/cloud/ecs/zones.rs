//! DescribeRegions and DescribeZones: where disks and instances can be, as the configuration says.

use serde_json::{Value, json};

use crate::cloud::category::Category;
use crate::cloud::ecs::ask::check_region;
use crate::cloud::error::ApiError;
use crate::cloud::params::Params;
use crate::cloud::service::{Call, Cloud};

/// DescribeRegions: the one that this is.
pub fn describe_regions(cloud: &Cloud, call: &Call<'_>) -> Result<Value, ApiError> {
    check_language(call.params)?;
    let region = cloud.region();
    let view = json!({ "RegionId": region, "LocalName": region, "RegionEndpoint": "", "Status": "available" });
    Ok(json!({ "Regions": { "Region": [view] } }))
}

/// DescribeZones.
pub fn describe_zones(cloud: &Cloud, call: &Call<'_>) -> Result<Value, ApiError> {
    check_region(cloud, call.params)?;
    check_language(call.params)?;
    if !matches!(call.params.text("InstanceChargeType"), None | Some("PrePaid" | "PostPaid")) {
        let what = "The InstanceChargeType does not exist in our records.";
        return Err(ApiError::new("InvalidInstanceChargeType.NotFound", 404, what));
    }
    if !matches!(call.params.text("SpotStrategy"), None | Some("NoSpot" | "SpotWithPriceLimit" | "SpotAsPriceGo")) {
        return Err(ApiError::new("InvalidSpotStrategy", 400, "The specified SpotStrategy is not valid."));
    }
    let zones: Vec<Value> = cloud.config().zones.iter().map(|zone| view(&zone.name)).collect();
    Ok(json!({ "Zones": { "Zone": zones } }))
}

fn check_language(params: &Params) -> Result<(), ApiError> {
    if matches!(params.text("AcceptLanguage"), None | Some("zh-CN" | "en-US" | "ja")) {
        return Ok(());
    }
    let what = "Only Chinese (zh-CN), English (en-US), and Japanese (ja) are allowed.";
    Err(ApiError::new("InvalidAcceptLanguage.NotFound", 404, what))
}

/// A zone. Types of instances are whatever users call them: there is no list.
fn view(zone: &str) -> Value {
    let categories = [Category::Cloud, Category::CloudEfficiency, Category::CloudSsd].map(Category::word);
    let resources = json!({
        "IoOptimized": true,
        "SystemDiskCategories": { "supportedSystemDiskCategory": categories },
        "DataDiskCategories": { "supportedDataDiskCategory": categories },
        "InstanceGenerations": { "supportedInstanceGeneration": [] },
        "InstanceTypeFamilies": { "supportedInstanceTypeFamily": [] },
        "InstanceTypes": { "supportedInstanceType": [] },
        "NetworkTypes": { "supportedNetworkCategory": [] },
    });
    json!({
        "ZoneId": zone,
        "LocalName": zone,
        "AvailableResourceCreation": { "ResourceTypes": ["Instance", "Disk"] },
        "AvailableDiskCategories": { "DiskCategories": categories },
        "AvailableInstanceTypes": { "InstanceTypes": [] },
        "AvailableResources": { "ResourcesInfo": [resources] },
        "AvailableVolumeCategories": { "VolumeCategories": [] },
        "AvailableDedicatedHostTypes": { "DedicatedHostType": [] },
        "DedicatedHostGenerations": { "DedicatedHostGeneration": [] },
    })
}
