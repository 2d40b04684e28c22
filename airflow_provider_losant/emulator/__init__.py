# SPDX-License-Identifier: Apache-2.0
"""A local Losant: an HTTP server with the notebook API that runs notebooks in kernels, or follows scripts."""

from airflow_provider_losant.emulator.arguments import set_arguments
from airflow_provider_losant.emulator.faults import Fault
from airflow_provider_losant.emulator.requestlog import Request
from airflow_provider_losant.emulator.server import Emulator
from airflow_provider_losant.emulator.state.timeline import Script
from airflow_provider_losant.emulator.switches import Switches

__all__ = ["Emulator", "Fault", "Request", "Script", "Switches", "set_arguments"]
