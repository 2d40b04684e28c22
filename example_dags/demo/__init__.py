# SPDX-License-Identifier: Apache-2.0
"""Shows the main job on this machine: a real Airflow runs real notebooks on a local Losant."""
