# SPDX-License-Identifier: Apache-2.0
"""What stands between a client and Losant: certificates, proxies and load balancers, with their faults."""

from tests.support.network.authority import CertificateAuthority
from tests.support.network.balancer import BalancerRequest, LoadBalancer
from tests.support.network.faults import NetworkFault
from tests.support.network.network import Network, NetworkKind
from tests.support.network.proxy import Proxy

__all__ = [
    "BalancerRequest",
    "CertificateAuthority",
    "LoadBalancer",
    "Network",
    "NetworkFault",
    "NetworkKind",
    "Proxy",
]
