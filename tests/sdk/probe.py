#!/usr/bin/env python3
"""Asks the cloud API at 127.0.0.1:PORT through the official SDKs, as applications do, and checks what comes back.

Usage: probe.py PORT. The server is that of tests/cloud_front_speaks_to_the_sdk.rs: it keeps the disks that are created, by key `testid`.
Exits with an error at the first thing that is not as it has to be.
"""
import base64
import json
import logging
import os
import sys
import warnings

# Both generations would ask a proxy, even for this machine.
for name in list(os.environ):
    if name.lower() in ('http_proxy', 'https_proxy', 'all_proxy'):
        del os.environ[name]
warnings.simplefilter('ignore')
logging.disable(logging.CRITICAL)

from aliyunsdkcore.client import AcsClient
from aliyunsdkcore.acs_exception.exceptions import ServerException
from aliyunsdkecs.request.v20140526.CreateDiskRequest import CreateDiskRequest
from aliyunsdkecs.request.v20140526.DeleteDiskRequest import DeleteDiskRequest
from aliyunsdkecs.request.v20140526.DescribeDisksRequest import DescribeDisksRequest
from aliyunsdkkms.request.v20160120.DescribeKeyRequest import DescribeKeyRequest
from aliyunsdkkms.request.v20160120.EncryptRequest import EncryptRequest
from aliyunsdkkms.request.v20160120.GenerateDataKeyRequest import GenerateDataKeyRequest
from alibabacloud_tea_openapi import models as openapi
from alibabacloud_ecs20140526.client import Client as Ecs
from alibabacloud_ecs20140526 import models as ecs
from alibabacloud_kms20160120.client import Client as Kms
from alibabacloud_kms20160120 import models as kms

ADDRESS = f'127.0.0.1:{sys.argv[1]}'
REGION = 'cn-hangzhou'
NAME = 'data disk * ~ + & 数据 %41'
# The most that a key service encrypts.
LARGE = base64.b64encode(bytes(range(256)) * 24).decode()


def equal(got, wanted):
    assert got == wanted, f'got {got!r} and not {wanted!r}'


class Classic:
    """aliyun-python-sdk: HMAC-SHA1, version 1.0; all parameters in the query."""

    def __init__(self, key='testid', secret='testsecret'):
        self.client = AcsClient(key, secret, REGION)

    def ask(self, request, **params):
        request.set_endpoint(ADDRESS)
        request.set_protocol_type('http')
        for name, value in params.items():
            getattr(request, f'set_{name}')(value)
        return json.loads(self.client.do_action_with_exception(request))

    def create(self, name):
        tags = [{'Key': 'k', 'Value': 'v'}]
        return self.ask(CreateDiskRequest(), ZoneId='z', Size=20, Encrypted=True, DiskName=name, Tags=tags)['DiskId']

    def disks(self, ids):
        answer = self.ask(DescribeDisksRequest(), DiskIds=json.dumps(ids))
        equal(len(answer['RequestId']), 36)
        return [(disk['DiskName'], disk['Encrypted'], disk['Size']) for disk in answer['Disks']['Disk']]

    def delete(self, disk):
        self.ask(DeleteDiskRequest(), DiskId=disk)

    def data_key(self):
        context = json.dumps({'acs:ecs:disk-id': 'd-1'})
        answer = self.ask(GenerateDataKeyRequest(), KeyId='alias/acs/ecs', NumberOfBytes=64, EncryptionContext=context)
        return answer['KeyId'], answer['Plaintext'], json.loads(answer['CiphertextBlob'])

    def encrypt(self, text):
        return self.ask(EncryptRequest(), KeyId='k', Plaintext=text)['CiphertextBlob']

    def describe_key(self, key):
        self.ask(DescribeKeyRequest(), KeyId=key)

    @staticmethod
    def code(error):
        assert isinstance(error, ServerException), error
        return error.get_http_status(), error.get_error_code(), error.get_error_msg()


class Current:
    """alibabacloud_*: ACS3-HMAC-SHA256, or the older signature if asked to."""

    def __init__(self, key='testid', secret='testsecret', **more):
        config = openapi.Config(access_key_id=key, access_key_secret=secret, region_id=REGION, endpoint=ADDRESS,
                                protocol='HTTP', **more)
        self.ecs, self.kms = Ecs(config), Kms(config)

    def create(self, name):
        tag = ecs.CreateDiskRequestTag(key='k', value='v')
        request = ecs.CreateDiskRequest(region_id=REGION, zone_id='z', size=20, encrypted=True, disk_name=name, tag=[tag])
        return self.ecs.create_disk(request).body.disk_id

    def disks(self, ids):
        body = self.ecs.describe_disks(ecs.DescribeDisksRequest(region_id=REGION, disk_ids=json.dumps(ids))).body
        equal(len(body.request_id), 36)
        return [(disk.disk_name, disk.encrypted, disk.size) for disk in body.disks.disk]

    def delete(self, disk):
        self.ecs.delete_disk(ecs.DeleteDiskRequest(disk_id=disk))

    def data_key(self):
        request = kms.GenerateDataKeyRequest(key_id='alias/acs/ecs', number_of_bytes=64,
                                             encryption_context={'acs:ecs:disk-id': 'd-1'})
        body = self.kms.generate_data_key(request).body
        return body.key_id, body.plaintext, json.loads(body.ciphertext_blob)

    def encrypt(self, text):
        return self.kms.encrypt(kms.EncryptRequest(key_id='k', plaintext=text)).body.ciphertext_blob

    def describe_key(self, key):
        self.kms.describe_key(kms.DescribeKeyRequest(key_id=key))

    @staticmethod
    def code(error):
        # Its message has status and request id around the server's.
        return error.status_code, error.code, error.message


def refused(client, call):
    try:
        call()
    except Exception as error:
        return client.code(error)
    raise AssertionError('not refused')


def check(client):
    disk = client.create(NAME)
    equal(client.disks([disk]), [(NAME, True, 20)])
    equal(client.disks([]), [])
    client.delete(disk)
    status, code, message = refused(client, lambda: client.delete('d-attached'))
    equal((status, code), (403, 'IncorrectDiskStatus'))
    assert 'The current disk status does not support this operation.' in message, message
    equal(client.data_key(), ('alias/acs/ecs', 'QUJD', {'acs:ecs:disk-id': 'd-1'}))
    equal(client.encrypt(LARGE), LARGE)
    status, code, _ = refused(client, lambda: client.describe_key('gone'))
    equal((status, code), (404, 'Forbidden.KeyNotFound'))


def check_strangers(kind, wrong_secret, **more):
    client = kind(key='nobody', **more)
    equal(refused(client, lambda: client.disks([]))[:2], (400, 'InvalidAccessKeyId.NotFound'))
    equal(refused(client, lambda: client.describe_key('k'))[:2], (404, 'InvalidAccessKeyId.NotFound'))
    client = kind(key='off', **more)
    equal(refused(client, lambda: client.disks([]))[:2], (403, 'Forbidden.AccessKeyDisabled'))
    client = kind(secret='wrong', **more)
    equal(refused(client, lambda: client.disks([]))[:2], (400, wrong_secret))


# The classic SDK compares what the server has signed with its own, and says itself that only the secret can be wrong.
for title, kind, more, wrong_secret in (
    ('classic SDK', Classic, {}, 'InvalidAccessKeySecret'),
    ('current SDK, ACS3-HMAC-SHA256', Current, {}, 'SignatureDoesNotMatch'),
    ('current SDK, HMAC-SHA1', Current, {'signature_algorithm': 'v2'}, 'SignatureDoesNotMatch'),
):
    check(kind(**more))
    check_strangers(kind, wrong_secret, **more)
    print(f'{title}: as it has to be', flush=True)
