"""Names of clubs and players for the simulator, many of them not ASCII."""

from functools import cache

__all__ = ["COMPETITIONS", "TEAMS", "players"]

PLAYERS_A_TEAM = 12

# (name, region, id) of the competition.
COMPETITIONS: tuple[tuple[str, str, str], ...] = (
    ("Premier League", "England", "12042"),
    ("LaLiga", "España", "12116"),
    ("Bundesliga", "Deutschland", "12091"),
    ("Süper Lig", "Türkiye", "12230"),
    ("Ekstraklasa", "Polska", "12171"),
    ("Fortuna liga", "Česko", "12075"),
    ("Ligue 1", "Côte d'Ivoire", "12309"),
    ("NPFL", "Nigeria", "12402"),
    ("FKF Premier League", "Kenya", "12377"),
    ("Brasileirão Série A", "Brasil", "12029"),
)

TEAMS: tuple[str, ...] = (
    "Arsenal", "Atlético Madrid", "Beşiktaş", "ŁKS Łódź", "Bayern München", "Slavia Praha",
    "ASEC Mimosas", "Enyimba", "Gor Mahia", "São Paulo", "Liverpool", "Alavés", "Fenerbahçe",
    "Śląsk Wrocław", "1. FC Köln", "Bohemians 1905", "Stade d'Abidjan", "Kano Pillars",
    "AFC Leopards", "Grêmio", "Nottingham Forest", "Deportivo La Coruña", "Göztepe",
    "Górnik Zabrze", "Borussia Mönchengladbach", "Baník Ostrava", "Africa Sports",
    "Rangers International", "Tusker", "Atlético Mineiro", "West Ham United", "Cádiz",
    "Çaykur Rizespor", "Jagiellonia Białystok", "Fortuna Düsseldorf", "České Budějovice",
    "San-Pédro", "Remo Stars", "Bandari", "Avaí", "Brighton & Hove Albion", "Málaga",
    "Kasımpaşa", "Wisła Kraków", "SpVgg Greuther Fürth", "Mladá Boleslav", "Stella Club",  # noqa: RUF001
    "Shooting Stars",
)  # fmt: skip

_INITIALS: tuple[str, ...] = (
    "A.", "B.", "C.", "D.", "E.", "Ø.", "G.", "H.", "I.", "J.", "K.",
    "Ł.", "M.", "N.", "Ó.", "P.", "R.", "S.", "Ş.", "T.", "V.", "Ž.",
)  # fmt: skip

_SURNAMES: tuple[str, ...] = (
    "Müller", "García", "Yılmaz", "Kowalski", "Novák", "Traoré", "Okafor", "Otieno", "Araújo",  # noqa: RUF001
    "Smith", "Gómez", "Şahin", "Wójcik", "Dvořák", "Koné", "Adeyemi", "Wanjala", "Gonçalves",
    "Taylor", "Núñez", "Çelik", "Błaszczyk", "Černý", "Diarrassouba", "Eze", "Odhiambo",
    "Magalhães", "Walker", "Muñoz", "Güneş", "Zieliński", "Hložek", "Bamba", "Nwosu", "Kimani",
    "Conceição", "O'Neill", "Peña", "Özdemir", "Świątek", "Kadeřábek", "Gbagbo", "Balogun",
    "Mwangi", "João Pedro",
)  # fmt: skip


@cache
def players(team: int) -> tuple[str, ...]:
    """The players of `TEAMS[team]` that bookmakers take bets on, always the same ones."""
    # 7 and 45 have no common divisor: no surname comes twice in a team of twelve.
    return tuple(
        f"{_INITIALS[(team * 3 + n * 5) % len(_INITIALS)]} "
        f"{_SURNAMES[(team * 11 + n * 7) % len(_SURNAMES)]}"
        for n in range(PLAYERS_A_TEAM)
    )
