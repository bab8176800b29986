//! The words that generated posts are made of.

/// What posts are about.
pub(super) struct Topic {
    pub(super) name: &'static str,
    pub(super) tags: &'static [&'static str],
    pub(super) things: &'static [&'static str],
    pub(super) deeds: &'static [&'static str],
    pub(super) places: &'static [&'static str],
}

pub(super) const TOPICS: &[Topic] = &[
    Topic {
        name: "gardening",
        tags: &["soil", "vegetables", "seeds", "balcony", "compost"],
        things: &["raised bed", "compost heap", "tomato row", "seed tray", "rain barrel", "hedge"],
        deeds: &["water before sunrise", "rotate the beds", "sow in two batches", "mulch early"],
        places: &["on a north-facing balcony", "in heavy clay", "behind the shed", "under glass"],
    },
    Topic {
        name: "cooking",
        tags: &["bread", "soup", "fermentation", "weeknight", "spices"],
        things: &["sourdough starter", "lentil soup", "cast-iron pan", "pickle jar", "stock pot"],
        deeds: &["salt in stages", "rest the dough overnight", "toast the spices", "taste often"],
        places: &["in a small kitchen", "on a camping stove", "for twelve guests", "after work"],
    },
    Topic {
        name: "cycling",
        tags: &["touring", "commuting", "repair", "gravel", "winter"],
        things: &["rear derailleur", "dynamo light", "saddle bag", "chain", "winter tyre"],
        deeds: &["check the spokes", "pack half as much", "clean the chain dry", "start slowly"],
        places: &["over the pass", "through the old town", "along the canal", "in the rain"],
    },
    Topic {
        name: "software",
        tags: &["actors", "rust", "testing", "databases", "operations"],
        things: &["supervisor", "mailbox", "write-ahead log", "flaky test", "retry loop", "cache"],
        deeds: &["let it crash", "bound every queue", "measure before and after", "name the owner"],
        places: &["in production", "on a Friday", "behind a load balancer", "on one machine"],
    },
    Topic {
        name: "astronomy",
        tags: &["telescopes", "planets", "sketching", "eclipse", "dark-sky"],
        things: &["ten-inch mirror", "finder scope", "star chart", "red lamp", "lunar crater"],
        deeds: &[
            "let the mirror cool",
            "draw what you see",
            "wait for the seeing",
            "note the time",
        ],
        places: &["under city lights", "at the edge of the forest", "on the roof", "in January"],
    },
    Topic {
        name: "photography",
        tags: &["film", "portrait", "street", "darkroom", "light"],
        things: &["fifty-millimetre lens", "contact sheet", "light meter", "old rangefinder"],
        deeds: &["step closer", "expose for the shadows", "wait for the second glance", "print it"],
        places: &["at the fish market", "in window light", "after the rain", "on the night train"],
    },
    Topic {
        name: "woodworking",
        tags: &["joinery", "hand-tools", "furniture", "finishing", "workshop"],
        things: &["dovetail joint", "block plane", "oak board", "workbench", "marking gauge"],
        deeds: &["sharpen first", "cut on the waste side", "plane with the grain", "glue in calm"],
        places: &["in a rented garage", "without a table saw", "in a damp cellar", "by hand"],
    },
    Topic {
        name: "history",
        tags: &["archives", "maps", "railways", "letters", "cities"],
        things: &["parish register", "harbour map", "railway timetable", "bundle of letters"],
        deeds: &["read the margins", "ask who paid for it", "compare two copies", "date the paper"],
        places: &["in the town archive", "along the old wall", "under the market hall", "in 1887"],
    },
    Topic {
        name: "music",
        tags: &["practice", "guitar", "choir", "recording", "theory"],
        things: &["metronome", "second verse", "open tuning", "rehearsal", "room microphone"],
        deeds: &["play it slower", "sing the bass line", "record every take", "leave a rest"],
        places: &["in a tiled bathroom", "before breakfast", "on a borrowed piano", "in the choir"],
    },
    Topic {
        name: "running",
        tags: &["trail", "marathon", "recovery", "beginners", "training"],
        things: &["long run", "rest day", "trail shoe", "negative split", "hill session"],
        deeds: &["start too slow", "sleep more", "keep a plain log", "walk the steep parts"],
        places: &["on forest tracks", "in summer heat", "around the lake", "after forty"],
    },
];

pub(super) const TITLES: &[&str] = &[
    "What a {thing} taught me {place}",
    "{deed}: notes after a year of {topic}",
    "Why I stopped worrying about the {thing}",
    "A {thing} {place}",
    "The {thing} nobody talks about",
    "How we learned to {deed} {place}",
    "Three mistakes with a {thing}",
    "{deed}, and other small rules of {topic}",
    "In praise of the {thing}",
    "From {thing} to {thing}: a season of {topic}",
    "You do not need a new {thing}",
    "{topic} {place}: what worked and what did not",
];

pub(super) const OPENINGS: &[&str] = &[
    "For two years my {thing} was the part of {topic} that I understood least.",
    "Everybody says: {deed}. Nobody says how that goes {place}.",
    "This began with a broken {thing} and a free weekend.",
    "I kept a notebook about {topic} {place}, and this is what is left of it.",
    "A reader asked how I handle the {thing} {place}, so here is the long answer.",
    "Some of what I wrote about the {thing} last year was wrong.",
];

pub(super) const SENTENCES: &[&str] = &[
    "the {thing} is where most of the time goes, and where least of it is needed.",
    "when in doubt, {deed}.",
    "we tried the same thing {place}, with a worse {thing} and a better result.",
    "that sounds like a detail, but {place} it decides the day.",
    "my first {thing} lasted a month, because nobody had told me to {deed}.",
    "there is a difference between a good {thing} and a new one.",
    "it took three attempts, and the second was the worst of them.",
    "if you only remember one rule of {topic}, let it be this: {deed}.",
    "people who do this for a living {deed} without thinking about it.",
    "the {thing} and the {thing} want opposite things, and you have to choose.",
    "{place}, the usual advice is no use at all.",
    "I wrote down what happened each time, and after a month the pattern was plain.",
    "it is slower, it is quieter, and it has not failed since.",
    "a borrowed {thing} is the best way to find out whether you need one.",
];

pub(super) const CLOSINGS: &[&str] = &[
    "next month I will try all of it again {place}. If you get there first, tell me.",
    "so: {deed}, be patient with the {thing}, and write down what you did.",
    "that is all. The {thing} is still there, and so am I.",
    "questions about the {thing} are welcome in the comments.",
];

pub(super) const COMMENTS: &[&str] = &[
    "I have done this {place} for years, and I agree about the {thing}.",
    "does it still work if you do not {deed}?",
    "my {thing} disagrees, but the rest of it rings true.",
    "thank you. I was about to buy a second {thing}.",
    "the part about the {thing} made me laugh, because it happened to me {place}.",
    "I would add one thing: {deed}, and then do it again.",
    "could you say more about the {thing}?",
];

pub(super) const FIRST_NAMES: &[&str] = &[
    "ada", "amira", "anton", "bela", "carla", "chidi", "clara", "dario", "edda", "emil", "farid",
    "fiona", "greta", "hana", "hugo", "ida", "igor", "ines", "jonas", "juno", "kaya", "kemal",
    "lena", "liv", "luca", "mara", "mateo", "mila", "nadia", "nils", "nora", "olga", "oskar",
    "petra", "rafael", "rosa", "samir", "sofia", "tariq", "thea", "tomas", "ulla", "vera",
    "viktor", "wanda", "xenia", "yara", "zoran",
];

pub(super) const LAST_NAMES: &[&str] = &[
    "adler", "baker", "bloom", "carter", "dahl", "ekberg", "fischer", "garcia", "haas", "ito",
    "jensen", "kowal", "lang", "marsh", "novak", "okafor", "park", "quist", "reyes", "stone",
    "tanaka", "urban", "vale", "weber", "young", "zhang", "brook", "field", "hill",
];
