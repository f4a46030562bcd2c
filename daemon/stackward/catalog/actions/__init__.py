"""The actions that there are: an explicit table, no side effects of imports.

To add one: a module here with its `Action`, and a line in the table.
"""

from collections.abc import Mapping

from stackward.catalog.action import Action
from stackward.catalog.actions.reboot_system_vm import REBOOT_SYSTEM_VM
from stackward.catalog.actions.restart_agent import RESTART_AGENT
from stackward.model.plan import ActionName

ACTIONS: Mapping[ActionName, Action] = {
    action.name: action for action in (RESTART_AGENT, REBOOT_SYSTEM_VM)
}
