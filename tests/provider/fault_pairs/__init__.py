# SPDX-License-Identifier: Apache-2.0
"""Pairs of faults: one of a submission, then a different one of the execution log."""
