"""Expressions in the syntax of pcap-filter(7), as formulas on fields: the common ones, on Ethernet.

What an expression means is what libpcap makes of it: `tcp` is over IPv4 or IPv6, `host` may be of ARP as
well, a port is in the first fragment only, `and` and `or` bind alike, and `vlan` moves all that is said
after it by the four bytes of a tag.
"""

import ipaddress
import re
import socket

from targe.conjunction import All, Any, Inexpressible, Match, Not, Range

_TOKEN = re.compile(r"\s*(?:(&&|\|\||[<>=!]=|[()\[\]!&=<>])|([^\s()\[\]!&|=<>]+))")
_ETHER = {"ip": 0x800, "arp": 0x806, "rarp": 0x8035, "ip6": 0x86dd}
_PROTOCOLS = {"icmp": 1, "igmp": 2, "tcp": 6, "udp": 17, "icmp6": 58, "sctp": 132}
_WITH_PORTS = ("tcp", "udp", "sctp")
_NAMES = {**_ETHER, **_PROTOCOLS}
_TAGS = (0x8100, 0x88a8, 0x9100)
_MAC = re.compile(r"(?:[0-9a-fA-F]{1,2}[:-]){5}[0-9a-fA-F]{1,2}")
_RELATIONS = ("=", "==", "!=", "<", "<=", ">", ">=")
_FLAGS = {"tcpflags": 13, "icmptype": 0, "icmpcode": 1, "tcp-fin": 1, "tcp-syn": 2, "tcp-rst": 4,
          "tcp-push": 8, "tcp-ack": 16, "tcp-urg": 32}
_NOT_HERE = {"less", "greater", "len", "gateway", "inbound", "outbound", "ifname", "mpls", "pppoes", "wlan", "type"}


class BadExpression(Exception):
    """Not an expression, or none that is understood here."""


def parse(text):
    """The formula that an expression is. Without words, every frame satisfies it."""
    parser = _Parser(text)
    return parser.whole()


class _Parser:
    def __init__(self, text):
        self._words = _split(text)
        self._at = 0
        self._link = 0          # bytes of tags before the Ethernet type
        self._qualifiers = None  # of the primitive before, for one that has none

    def whole(self):
        """The formula of all words."""
        if not self._words:
            return All()
        formula = self._expression()
        if self._peek() is not None:
            raise BadExpression(f"'{self._peek()}' is not expected here")
        return formula

    # ---- words

    def _peek(self, ahead=0):
        at = self._at + ahead
        return self._words[at] if at < len(self._words) else None

    def _next(self):
        word = self._peek()
        if word is None:
            raise BadExpression("the expression ends too early")
        self._at += 1
        return word

    def _take(self, *words):
        if self._peek() in words:
            return self._next()
        return None

    # ---- and, or, not

    def _expression(self):
        formula = self._factor()
        while word := self._take("and", "&&", "or", "||"):
            other = self._factor()
            formula = All(formula, other) if word in ("and", "&&") else Any(formula, other)
        return formula

    def _factor(self):
        if self._take("not", "!"):
            return Not(self._factor())
        if self._take("("):
            formula = self._expression()
            if not self._take(")"):
                raise BadExpression("a ')' is missing")
            return formula
        return self._primitive()

    # ---- primitives

    def _primitive(self):
        word = self._peek()
        if word in _NOT_HERE:
            raise Inexpressible(f"no condition can say '{word}'")
        if self._take("vlan"):
            return self._vlan()
        if self._take("broadcast"):
            return self._mac(0, "ff:ff:ff:ff:ff:ff")
        if self._take("multicast"):
            return self._link_match(0, 1, 1, 1, "multicast")
        protocol = word if word in (*_NAMES, "ether") else None
        if protocol:
            self._next()
            if self._peek() == "[":
                return self._accessor(protocol)
        direction, kind = self._direction(), self._take("host", "net", "port", "portrange", "proto")
        if protocol and not direction and not kind:
            if protocol in ("ether", "ip") and self._take("broadcast"):
                return self._mac(0, "ff:ff:ff:ff:ff:ff") if protocol == "ether" else self._ip_broadcast()
            if protocol in ("ether", "ip", "ip6") and self._take("multicast"):
                return self._multicast(protocol)
            if not self._is_id():
                self._qualifiers = None
                return self._protocol(protocol)
        if not protocol and not direction and not kind:
            if not self._qualifiers:
                if self._peek() in ("and", "or", ")", "&&", "||", None):
                    raise BadExpression("something is missing")
                self._qualifiers = None, None, "host"
            protocol, direction, kind = self._qualifiers
        kind = kind or "host"
        self._qualifiers = protocol, direction, kind
        return self._with_id(protocol, direction, kind)

    def _is_id(self):
        word = self._peek()
        return word is not None and word not in ("and", "or", "&&", "||", ")", "(", "not", "!")

    def _direction(self):
        first = self._take("src", "dst")
        if first and self._peek() in ("or", "and") and self._peek(1) in ("src", "dst"):
            joint = self._next()
            self._next()
            return f"src {joint} dst"
        return first

    def _with_id(self, protocol, direction, kind):
        word = self._next()
        if kind == "proto":
            return self._proto(protocol, word)
        if kind in ("port", "portrange"):
            return self._ports(protocol, direction, _port_range(word, kind == "portrange"))
        if protocol == "ether":
            return _directed(direction, self._mac(6, word), self._mac(0, word))
        return self._addresses(protocol, direction, self._network(word, kind))

    # ---- the link

    def _link_match(self, offset, width, mask, value, name):
        return Match(0, offset, width, mask, value, name)

    def _type(self, number):
        name = next((name for name, type_ in _ETHER.items() if type_ == number), f"{number:#06x}")
        return self._link_match(12 + self._link, 2, 0xffff, number, f"Ethernet type: {name}")

    def _mac(self, offset, text):
        if not _MAC.fullmatch(text):
            raise BadExpression(f"'{text}' is no Ethernet address")
        octets = [int(octet, 16) for octet in re.split("[:-]", text)]
        number = int.from_bytes(bytes(octets), "big")
        name = "source" if offset else "destination"
        return All(self._link_match(offset, 4, 0xffffffff, number >> 16, f"Ethernet {name}"),
                   self._link_match(offset + 4, 2, 0xffff, number & 0xffff, f"Ethernet {name}"))

    def _vlan(self):
        formula = Any(*(self._type(tag) for tag in _TAGS))
        word = self._peek()
        if word is not None and re.fullmatch(r"\d+|0x[0-9a-fA-F]+", word):
            number = _number(self._next(), 4095)
            formula = All(formula, self._link_match(14 + self._link, 2, 0xfff, number, f"VLAN {number}"))
        self._link += 4
        self._qualifiers = None
        return formula

    # ---- protocols

    @property
    def _header(self):
        return 14 + self._link

    def _protocol(self, name):
        if name == "ether":
            raise BadExpression("'ether' needs host, src, dst, proto, broadcast or multicast")
        if name in _ETHER:
            return self._type(_ETHER[name])
        return self._proto({"icmp": "ip", "igmp": "ip", "icmp6": "ip6"}.get(name), name)

    def _ip_protocol(self, number):
        return All(self._type(0x800), self._link_match(
            self._header + 9, 1, 0xff, number, f"IP protocol: {_protocol_name(number)}"))

    def _ip6_protocol(self, number, at=6):
        return All(self._type(0x86dd), self._link_match(
            self._header + at, 1, 0xff, number, f"IPv6 next header: {_protocol_name(number)}"))

    def _proto(self, protocol, word):
        number = _named(word, _ETHER if protocol == "ether" else _PROTOCOLS, 0xffff if protocol == "ether" else 255)
        if protocol == "ether":
            if number <= 1500:
                raise Inexpressible("Ethernet types up to 1500 are lengths: no condition can say which protocol")
            return self._type(number)
        ip6 = Any(self._ip6_protocol(number), All(self._ip6_protocol(44), self._ip6_protocol(number, 40)))
        if protocol in ("ip", "ip6"):
            return self._ip_protocol(number) if protocol == "ip" else ip6
        if protocol:
            raise BadExpression(f"'{protocol} proto' means nothing")
        return Any(self._ip_protocol(number), ip6)

    def _ports(self, protocol, direction, span):
        if protocol in ("ip", "ip6", None):
            protocols = _WITH_PORTS
        elif protocol in _WITH_PORTS:
            protocols = (protocol,)
        else:
            raise BadExpression(f"'{protocol} port' means nothing")
        whole = self._link_match(self._header + 6, 2, 0x1fff, 0, "first fragment, or the only one")
        choices = []
        for name in protocols:
            number = _PROTOCOLS[name]
            if protocol != "ip6":
                choices.append(All(self._ip_protocol(number), whole,
                                   _port(direction, self._header, 0, span)))
            if protocol != "ip":
                choices.append(All(self._ip6_protocol(number), _port(direction, 0, self._header + 40, span)))
        return Any(*choices)

    # ---- addresses

    def _addresses(self, protocol, direction, network):
        choices = []
        if network.version == 6:
            if protocol not in ("ip6", None):
                raise BadExpression(f"'{protocol}' has no IPv6 addresses")
            return All(self._type(0x86dd), _directed(
                direction, *(self._address(self._header + at, network, f"IPv6 {which}")
                             for at, which in ((8, "source"), (24, "destination")))))
        places = {"ip": (12, 16), "arp": (14, 24), "rarp": (14, 24)}
        if protocol is not None and protocol not in places:
            raise BadExpression(f"'{protocol}' has no addresses")
        for name, (source, destination) in places.items():
            if protocol in (name, None):
                choices.append(All(self._type(_ETHER[name]), _directed(
                    direction, self._address(self._header + source, network, f"{name} source"),
                    self._address(self._header + destination, network, f"{name} destination"))))
        return Any(*choices)

    def _network(self, word, kind):
        """An address or a network. pcap lets trailing bytes of a network be left out."""
        if kind == "net" and re.fullmatch(r"\d{1,3}(\.\d{1,3}){0,2}", word):
            octets = word.split(".")
            word = ".".join(octets + ["0"] * (4 - len(octets))) + f"/{8 * len(octets)}"
        if kind == "net" and self._take("mask"):
            word += f"/{self._next()}"
        if kind == "host" and "/" in word:
            raise BadExpression(f"'{word}' is a network: say net")
        try:
            return ipaddress.ip_network(word)
        except ValueError as error:
            raise BadExpression(f"'{word}' is no address of IPv4 or IPv6"
                                + (" (a name is not looked up)" if kind == "host" else f": {error}")) from None

    def _address(self, offset, network, name):
        mask, value = int(network.netmask), int(network.network_address)
        words = []
        for i in range(network.max_prefixlen // 32):
            down = network.max_prefixlen - 32 * (i + 1)
            part = mask >> down & 0xffffffff
            if part:
                words.append(self._link_match(offset + 4 * i, 4, part, value >> down & part, name))
        return All(*words)

    def _ip_broadcast(self):
        raise Inexpressible("'ip broadcast' depends on a netmask")

    def _multicast(self, protocol):
        self._qualifiers = None
        if protocol == "ether":
            return self._link_match(0, 1, 1, 1, "multicast")
        if protocol == "ip6":
            return All(self._type(0x86dd), self._link_match(self._header + 24, 1, 0xff, 0xff, "IPv6 multicast"))
        return All(self._type(0x800), Match(0, self._header + 16, 1, 0xe0, 0xe0, "IP multicast"))

    # ---- proto[offset:size] & mask = value

    def _accessor(self, protocol):
        self._next()
        offset, _, size = self._next().partition(":")
        offset, width = _number(_FLAGS.get(offset, offset), 63), _number(size or "1", 4)
        if self._take("]") is None or width not in (1, 2, 4):
            raise BadExpression(f"{protocol}[OFFSET:SIZE] with a size of 1, 2 or 4 is expected")
        all_ones = (1 << 8 * width) - 1
        mask = _number(_FLAGS.get(self._peek(), self._next()), all_ones) if self._take("&") else all_ones
        relation = self._next()
        if relation not in _RELATIONS:
            raise BadExpression(f"'{relation}' is not expected behind {protocol}[...]: only & and a comparison are")
        value = _number(_FLAGS.get(self._peek(), self._next()), all_ones)
        self._qualifiers = None
        context, part, base = self._place(protocol)
        return All(*context, _compare(part, base + offset, width, mask, relation, value, f"{protocol}[{offset}]"))

    def _place(self, protocol):
        """What must hold so that a protocol's header is there, and where it is."""
        if protocol == "ether":
            return (), 0, 0
        if protocol in _ETHER:
            return (self._type(_ETHER[protocol]),), 0, self._header
        if protocol == "icmp6":
            return (self._ip6_protocol(58),), 0, self._header + 40
        whole = self._link_match(self._header + 6, 2, 0x1fff, 0, "first fragment, or the only one")
        return (self._ip_protocol(_PROTOCOLS[protocol]), whole), self._header, 0


def _split(text):
    words, at = [], 0
    text = text.rstrip()
    while at < len(text):
        found = _TOKEN.match(text, at)
        if not found:
            raise BadExpression(f"'{text[at:].strip()}' cannot be read")
        words.append(found.group(1) or found.group(2))
        at = found.end()
    return words


def _directed(direction, source, destination):
    return {"src": source, "dst": destination, "src and dst": All(source, destination)}.get(
        direction, Any(source, destination))


def _port(direction, part, base, span):
    def at(offset, name):
        low, high = span
        if low == high:
            return Match(part, base + offset, 2, 0xffff, low, f"{name} port {low}")
        return Range(part, base + offset, low, high, f"{name} port")
    return _directed(direction, at(0, "source"), at(2, "destination"))


def _compare(part, offset, width, mask, relation, value, name):
    if relation in ("=", "==", "!="):
        if value & ~mask:
            raise BadExpression(f"{name}: the value has bits that the mask has not")
        match = Match(part, offset, width, mask, value, name)
        return Not(match) if relation == "!=" else match
    if width != 2 or mask != 0xffff or offset % 2:
        raise Inexpressible(f"{name}: a condition can only compare whole fields of 2 bytes at even places")
    spans = {"<": (0, value - 1), "<=": (0, value), ">": (value + 1, 0xffff), ">=": (value, 0xffff)}
    return Range(part, offset, *spans[relation], name)


def _protocol_name(number):
    return next((name for name, known in _PROTOCOLS.items() if known == number), str(number))


def _number(word, most):
    try:
        number = int(str(word), 0)
    except ValueError:
        raise BadExpression(f"'{word}' is no number") from None
    if not 0 <= number <= most:
        raise BadExpression(f"{word} is not from 0 to {most}")
    return number


def _named(word, names, most):
    word = word.lstrip("\\")
    return names[word] if word in names else _number(word, most)


def _port_range(word, is_range):
    low, dash, high = word.partition("-") if is_range else (word, "", "")
    numbers = [_service(part) for part in ((low, high) if dash else (low, low))]
    return min(numbers), max(numbers)


def _service(word):
    if word.isdigit():
        return _number(word, 65535)
    try:
        return socket.getservbyname(word)
    except OSError:
        raise BadExpression(f"'{word}' is no port") from None
