"""Common words: English words that name nobody, so that alone they stand for no entity."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


FUNCTION_WORDS = _words(
    """
    a about above across after again against all almost alone along already also although always am
    among an and another any anybody anyone anything are around as at away back be became because
    become been before behind being below between both but by came can cannot could did do does
    doing done down during each either else enough even ever every everyone everything few for from
    further get give go goes going gone good got had has have having he hence her here hers herself
    him himself his how however i if in indeed instead into is it its itself just keep last least
    less let like made make many may me might mine more most much must my myself near neither never
    next no nobody none nor not nothing now of off often on once only onto or other others our ours
    out over own per perhaps put rather said same say see seem seen several she should show since so
    some someone something still such take than that the their theirs them then there therefore
    these they this those though through thus to together too toward towards under until up upon us
    very was we well were what whatever when where whether which while who whoever whole whom whose
    why will with within without would yes yet you your yours
    """
)
"""Words of grammar. As a whole alias ("The Who", "US") they count only when capitalised."""

COMMON_WORDS = FUNCTION_WORDS | _words(
    """
    academy act action actor actress age agency air airport album alliance amendment america
    american americans ancient animal annual answer anthem apple april area army art article arts
    artist asia asian association athlete atlantic august australia australian author award awards
    baby bad ball band bank bar base baseball basketball battle bay beach bear beautiful bell best
    big bill billion bird birth bishop black blood blue board boat body book books border born boy
    boys brain branch bridge britain british broken brother brothers brown building bureau bus
    business california call called camp canada canadian canal cape capital captain car card care
    case castle cat cell center central centre century chain chairman challenge champion
    championship change channel chapter character charles chief child children china chinese
    christian christmas church cinema circle circuit city civil class classic clear club coach coast
    code cold college color comedy comic commission committee common community company conference
    congress constitution control cook corporation council country county course court creek crime
    cross crown culture cup current dance dark data date daughter day days dead deal dear death
    december deep defense degree delta democratic department desert design development devil
    diamond director district division doctor dog double dr drama dream drive duke dutch earl early
    earth east eastern economic edge editor education eight eighth election electric eleven emperor
    empire end energy engine england english entertainment episode era europe european event
    evening events example executive eye face fact faith falls family fame famous far father
    federal federation female festival fiction field fifth film films final fine fire first fish
    five flag flight floor flower follow food football force foreign forest form formation fort
    foundation four fourth fox france free freedom french friday friend friends front full fund
    future game games garden gas gate gay general genus george german germany giant gift girl girls
    glass global god gold golden government governor grace grand great greatest greece greek green
    ground group guard guide gulf gun hall hand happy harbor hard head health heart heaven heavy
    height hell help henry hero high hill hills historic historical history hit hockey holiday
    hollywood holy home honor hope horse hospital hot hotel hour house human hundred ice idea image
    imperial independence independent india indian industry information inn institute international
    invention ireland irish iron island islands isle issue italian italy january japan japanese
    jewish job john journal journey judge july june junior justice key kid kill killer kind king
    kingdom kings know known korea korean lady lake land language large late latin law leader
    league learn left legal legend length letter level liberal library life light line lion list
    literature little live lives living local london long lord lost love low machine magazine magic
    main major male man management manager march market marriage martial mary mass master match
    matter mayor meaning media medical medicine medieval member members memorial men mental metal
    mexican mexico michael middle mile miles military milk million mind minister minor minute
    missing mission model modern monday money monster month moon morning mother motion motor mount
    mountain mountains movement movie mr mrs ms murder museum music musical mystery name named nation
    national native natural nature naval navy network new news newspaper night nine ninth nobel
    north northern note novel november number object ocean october office officer official oil old
    olympic olympics open opera orange orchestra order organisation organization original pacific
    page palace paper parent parish park parliament part party past paul peace people period person
    peter philosophy phone piano picture pilot place plan planet plant play player point police
    policy political pop pope popular population port position post power present president press
    prime prince princess prison private prize process producer production professional professor
    profession program project province public purple queen question race radio railway rain range
    real record red reform region religion republic research reserve rest return revolution rhode
    right rights ring rise river road robert rock role roman room rose round royal rule run running
    russia russian safe saint san santa saturday school science scientific scotland scottish sea
    season seat second secret secretary section security senate senator senior sense september
    series service seven seventh sex shadow ship short show side sign silver simple singer single
    sir sister site six sixth sky small smith snow soccer social society soldier son song songs
    soul sound south southern space spain spanish special species speed spirit sport sports spring
    square stadium stage standard star stars start state states station stone stop store story
    street strong student studio studios style sub summer sun sunday super supreme surface system
    table tale talk tax teacher team technology television temple ten tennis term territory test
    text theater theatre theory thing things think third thomas thousand three thursday tiger time
    times title today tom top tour tower town township track trade tradition traditional train
    travel treaty tree trial tribe true truth tuesday turn tv twelve twenty two type uk union unit
    united universe university upper us usa valley value version video view village virginia
    vision voice volume wales walk wall war washington watch water wave way wednesday week west
    western wheel white wife wild william wind window wing winner winter wolf woman women wonder
    wood word words work works world writer writing year years yellow york young zone
    """
)
"""Words too common to give an entity away by themselves, with given names and countries among them
that half of all traces mention."""
