"""Drives the cloud's API with its official SDKs, as tests say: a line of JSON in, a line of JSON out.

In:  {"generation": "classic" | "current", "product": "ecs" | "kms", "action": "CreateDisk", "params": {...}}
Out: {"answer": {...}}, or {"code": ..., "status": ..., "message": ...} for what the SDK raises.

Arguments: the address of the API, the region, the identifier of an access key. Its secret comes in the environment, as SECRET.
"""

import json
import os
import re
import sys
import warnings
from importlib import import_module

# Both generations obey these, also for 127.0.0.1.
for name in list(os.environ):
    if name.lower().endswith("_proxy"):
        del os.environ[name]
warnings.simplefilter("ignore")

ADDRESS, REGION, KEY = sys.argv[1:4]
SECRET = os.environ["SECRET"]


def classic(product, action, params):
    """aliyun-python-sdk-core: signature 1.0, HMAC-SHA1."""
    from aliyunsdkcore.acs_exception.exceptions import ServerException
    from aliyunsdkcore.client import AcsClient

    module = {"ecs": "aliyunsdkecs.request.v20140526", "kms": "aliyunsdkkms.request.v20160120"}[product]
    request = getattr(import_module(f"{module}.{action}Request"), f"{action}Request")()
    request.set_endpoint(ADDRESS)
    # Requests to the KMS are made for https.
    request.set_protocol_type("http")
    for parameter, value in params.items():
        if parameter == "RegionId":
            continue  # That of the client.
        plural = parameter + "s"
        is_list = isinstance(value, list) and hasattr(request, f"set_{plural}")
        getattr(request, f"set_{plural if is_list else parameter}")(value)
    client = AcsClient(KEY, SECRET, REGION, auto_retry=False)
    try:
        return {"answer": json.loads(client.do_action_with_exception(request))}
    except ServerException as error:
        return {
            "code": error.get_error_code(),
            "status": error.get_http_status(),
            "message": error.get_error_msg(),
        }


def current(product, action, params):
    """alibabacloud_*: ACS3-HMAC-SHA256."""
    from alibabacloud_tea_openapi import models as openapi

    package = {"ecs": "alibabacloud_ecs20140526", "kms": "alibabacloud_kms20160120"}[product]
    models = import_module(f"{package}.models")
    config = openapi.Config(
        access_key_id=KEY, access_key_secret=SECRET, region_id=REGION, endpoint=ADDRESS, protocol="HTTP"
    )
    client = import_module(f"{package}.client").Client(config)
    method = getattr(client, re.sub(r"(?<=[a-z])(?=[A-Z])", "_", action).lower())
    kind = getattr(models, f"{action}Request", None)
    try:
        if kind is None:
            return {"answer": method().body.to_map()}
        request = kind()
        request.from_map(params)
        return {"answer": method(request).body.to_map()}
    except Exception as error:  # The SDK's own kinds differ between its versions.
        if not hasattr(error, "code"):
            raise
        status = getattr(error, "status_code", None) or getattr(error, "statusCode", None)
        return {"code": error.code, "status": status, "message": error.message}


GENERATIONS = {"classic": classic, "current": current}

for line in sys.stdin:
    ask = json.loads(line)
    answer = GENERATIONS[ask["generation"]](ask["product"], ask["action"], ask["params"])
    print(json.dumps(answer), flush=True)
