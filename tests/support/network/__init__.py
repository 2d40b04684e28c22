# SPDX-License-Identifier: Apache-2.0
"""What stands between a client and Losant: certificates, proxies and load balancers, with their faults."""
