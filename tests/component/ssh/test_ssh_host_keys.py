"""VM host keys are pinned per template: the first is trusted, then no other."""

import asyncio
from random import Random

import asyncssh
import pytest

from stackward.errors import ConfigError, JournalError, Leg, RefusalKind, Refused, Unreachable
from stackward.model.identity import TemplateId
from stackward.transports.ssh_guests import SshGuests
from stackward.transports.ssh_settings import SshSettings
from tests.component.ssh.servers import (
    CLIENT_KEY,
    KIT,
    OTHER_KEY,
    PATIENCE,
    TEMPLATE,
    TEMPLATE_ECDSA_KEY,
    TEMPLATE_KEY,
    FakeJump,
    FakeVm,
    MemoryKeys,
)
from tests.fakes.clock import LoopClock


def public(key: asyncssh.SSHKey) -> str:
    return key.export_public_key("openssh").decode().strip()


async def test_the_first_key_of_a_template_is_pinned_and_logged(cloud):
    jump = await cloud.start_jump(FakeJump())
    vm = await cloud.start_vm(FakeVm("s-1-VM"))
    guests = cloud.guests()
    await guests.ask(vm.target, jump.host, 1, timeout=PATIENCE)
    assert cloud.keys.pins == {TEMPLATE: {public(TEMPLATE_KEY)}}
    assert [event for event, _ in cloud.log.said] == ["host key pinned"]


async def test_many_first_vms_of_one_template_pin_one_key(cloud):
    jump = await cloud.start_jump(FakeJump())
    vms = [await cloud.start_vm(FakeVm(f"s-{number}-VM")) for number in range(10)]
    guests = cloud.guests()
    async with asyncio.TaskGroup() as group:
        for vm in vms:
            group.create_task(guests.ask(vm.target, jump.host, 1, timeout=PATIENCE))
    assert len(cloud.log.said) == 1


async def test_another_key_than_pinned_is_refused(cloud):
    jump = await cloud.start_jump(FakeJump())
    cloud.keys.pins[TEMPLATE] = {public(OTHER_KEY)}
    vm = await cloud.start_vm(FakeVm("s-1-VM"))
    guests = cloud.guests()
    with pytest.raises(Refused, match="another host key than pinned") as caught:
        await guests.ask(vm.target, jump.host, 1, timeout=PATIENCE)
    assert (caught.value.leg, caught.value.kind) == (Leg.INNER_HOST_KEY, RefusalKind.HOST_KEY)
    assert TEMPLATE_KEY.get_fingerprint() in str(caught.value)
    assert vm.logins == 0
    assert cloud.keys.pins == {TEMPLATE: {public(OTHER_KEY)}}


async def test_no_key_of_a_pinned_type_is_a_mismatch_too(cloud):
    jump = await cloud.start_jump(FakeJump())
    cloud.keys.pins[TEMPLATE] = {public(TEMPLATE_ECDSA_KEY)}
    vm = await cloud.start_vm(FakeVm("s-1-VM"))
    guests = cloud.guests()
    with pytest.raises(Refused) as caught:
        await guests.ask(vm.target, jump.host, 1, timeout=PATIENCE)
    assert (caught.value.leg, caught.value.kind) == (Leg.INNER_HOST_KEY, RefusalKind.HOST_KEY)


@pytest.mark.parametrize("pinned", [TEMPLATE_KEY, TEMPLATE_ECDSA_KEY])
async def test_a_vm_with_several_key_types_is_asked_for_the_pinned_one(cloud, pinned):
    jump = await cloud.start_jump(FakeJump())
    cloud.keys.pins[TEMPLATE] = {public(pinned)}
    vm = await cloud.start_vm(FakeVm("s-1-VM", host_keys=(TEMPLATE_KEY, TEMPLATE_ECDSA_KEY)))
    guests = cloud.guests()
    assert (await guests.ask(vm.target, jump.host, 1, timeout=PATIENCE)).tick == 1


async def test_of_two_first_vms_with_different_keys_one_is_refused(cloud):
    jump = await cloud.start_jump(FakeJump())
    vms = [
        await cloud.start_vm(FakeVm("s-1-VM")),
        await cloud.start_vm(FakeVm("s-2-VM", host_keys=(OTHER_KEY,))),
    ]
    guests = cloud.guests()

    async def ask(vm: FakeVm) -> RefusalKind | None:
        try:
            await guests.ask(vm.target, jump.host, 1, timeout=PATIENCE)
        except Refused as error:
            return error.kind
        return None

    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(ask(vm)) for vm in vms]
    assert {task.result() for task in asked} == {None, RefusalKind.HOST_KEY}


async def test_two_first_vms_that_show_different_types_of_one_template_are_both_let_in(cloud):
    both = (TEMPLATE_KEY, TEMPLATE_ECDSA_KEY)
    jump = await cloud.start_jump(FakeJump())
    vms = [await cloud.start_vm(FakeVm(f"s-{number}-VM", host_keys=both)) for number in (1, 2)]

    class Late(MemoryKeys):
        """The first look comes before somebody else's pin."""

        async def pinned(self, template_id):
            known = await super().pinned(template_id)
            self.pins.setdefault(template_id, {public(TEMPLATE_ECDSA_KEY)})
            return known

    cloud.keys = Late()
    guests = cloud.guests()
    for vm in vms:
        await guests.ask(vm.target, jump.host, 1, timeout=PATIENCE)
    assert cloud.keys.pins == {TEMPLATE: {public(TEMPLATE_ECDSA_KEY)}}


async def test_templates_have_their_own_pins(cloud):
    jump = await cloud.start_jump(FakeJump())
    old = await cloud.start_vm(FakeVm("s-1-VM"))
    new = await cloud.start_vm(
        FakeVm("s-2-VM", host_keys=(OTHER_KEY,), template_id=TemplateId("template-2"))
    )
    guests = cloud.guests()
    for vm in (old, new):
        await guests.ask(vm.target, jump.host, 1, timeout=PATIENCE)
    assert len(cloud.keys.pins) == 2


async def test_a_vm_without_a_template_is_refused_without_a_login(cloud):
    jump = await cloud.start_jump(FakeJump())
    vm = await cloud.start_vm(FakeVm("s-1-VM", template_id=None))
    guests = cloud.guests()
    with pytest.raises(Refused, match="no template") as caught:
        await guests.ask(vm.target, jump.host, 1, timeout=PATIENCE)
    assert caught.value.leg is Leg.INNER_TCP
    assert not vm.connections


async def test_pins_that_cannot_be_kept_keep_the_vm_out(cloud):
    jump = await cloud.start_jump(FakeJump())
    vm = await cloud.start_vm(FakeVm("s-1-VM"))

    class Full(MemoryKeys):
        async def pin(self, template_id, key, *, first_seen_on):
            raise JournalError("disk full")

    cloud.keys = Full()
    guests = cloud.guests()
    with pytest.raises(Unreachable, match="disk full"):
        await guests.ask(vm.target, jump.host, 1, timeout=PATIENCE)
    async with asyncio.timeout(PATIENCE):
        await vm.connections[0].wait_closed()


@pytest.mark.parametrize(
    ("algorithm", "form"),
    [
        ("ssh-rsa", "pkcs1-pem"),
        ("ssh-rsa", "openssh"),
        ("ecdsa-sha2-nistp256", "pkcs8-pem"),
        ("ecdsa-sha2-nistp384", "pkcs1-pem"),
        ("ssh-ed25519", "openssh"),
    ],
)
async def test_keys_of_every_age_of_cloudstack_are_read(cloud, tmp_path, algorithm, form):
    key = asyncssh.generate_private_key(algorithm)
    path = tmp_path / "id_rsa"
    path.write_bytes(key.export_private_key(form))
    jump = await cloud.start_jump(FakeJump())
    vm = await cloud.start_vm(FakeVm("s-1-VM", client_key=key))
    guests = cloud.guests(vm_keys=(path,))
    assert (await guests.ask(vm.target, jump.host, 1, timeout=PATIENCE)).tick == 1


async def test_every_key_that_cannot_be_used_is_told_at_start(cloud, tmp_path):
    locked = tmp_path / "locked"
    locked.write_bytes(CLIENT_KEY.export_private_key("pkcs8-pem", passphrase="secret"))
    settings = cloud.settings(
        vm_keys=(tmp_path / "absent", b"no key"), jump_keys=(locked, tmp_path / "absent")
    )
    with pytest.raises(ConfigError) as caught:
        SshGuests(settings, cloud.keys, LoopClock(), cloud.log, Random(7), loop=KIT)
    assert [(mistake.path, mistake.line) for mistake in caught.value.mistakes] == [
        ("ssh.vm_keys[0]", None),
        ("ssh.vm_keys[1]", None),
        ("ssh.jump_keys[0]", None),
        ("ssh.jump_keys[1]", None),
    ]
    assert "no key" not in str(caught.value).replace("no usable private key", "")


async def test_without_a_key_nobody_is_let_in_and_no_key_is_found_elsewhere(cloud, monkeypatch):
    home = cloud.folder / "home" / ".ssh"
    home.mkdir(parents=True)
    (home / "id_ed25519").write_bytes(CLIENT_KEY.export_private_key("openssh"))
    monkeypatch.setenv("HOME", str(home.parent))
    jump = await cloud.start_jump(FakeJump())
    vm = await cloud.start_vm(FakeVm("s-1-VM"))
    guests = cloud.guests(jump_keys=())
    with pytest.raises(Refused) as caught:
        await guests.ask(vm.target, jump.host, 1, timeout=PATIENCE)
    assert (caught.value.leg, caught.value.kind) == (Leg.JUMP_AUTH, RefusalKind.AUTHENTICATION)


async def test_an_agent_that_does_not_answer_is_told(cloud, tmp_path):
    jump = await cloud.start_jump(FakeJump())
    vm = await cloud.start_vm(FakeVm("s-1-VM"))
    guests = cloud.guests(agent_socket=tmp_path / "no-agent")
    with pytest.raises(Refused, match="SSH agent") as caught:
        await guests.ask(vm.target, jump.host, 1, timeout=PATIENCE)
    assert caught.value.leg is Leg.JUMP_AUTH
    assert jump.attempts == 0


def test_settings_do_not_show_their_keys(tmp_path):
    settings = SshSettings(known_hosts=tmp_path, vm_keys=(b"-----BEGIN SECRET",))
    assert "SECRET" not in repr(settings)
